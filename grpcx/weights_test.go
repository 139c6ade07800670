package grpcx_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A drained instance gets calls only if no instance with a weight can serve.
func TestNewClient_DrainedInstancesAreTheLastResort(t *testing.T) {
	for _, weight := range []int{0, -1, math.MinInt} {
		for other, status := range map[string]registry.Status{
			"in maintenance": registry.Maintenance, "critical": registry.Critical, "in warning": registry.Warning, "not connected": registry.Passing,
		} {
			forEveryPolicy(t, func(n *network, target string) {
				drained := n.listen(addressIn(0))
				second := at(&node{address: addressIn(1)}, status)
				var up *node
				if status != registry.Passing {
					up = n.listen(second.Address)
				}
				first := at(drained, registry.Passing)
				first.Weight = weight
				conn := n.client(target)
				n.says(nil, first, second)
				time.Sleep(10 * time.Second)
				if failed, err := n.call(conn, 10); failed > 0 {
					n.Errorf("weight %d beside one %s: %v", weight, other, err)
				}
				if up != nil && up.calls.Load() > 0 {
					n.Errorf("weight %d beside one %s, which gets calls", weight, other)
				}
				if up == nil {
					n.listen(second.Address)
				}
				n.says(nil, first, with(registry.Passing, second)[0])
				time.Sleep(5 * time.Minute) // for the longest backoff there is
				drained.calls.Store(0)
				if failed, err := n.call(conn, 10); failed > 0 || drained.calls.Load() > 0 && !isPickFirst(target) {
					n.Errorf("weight %d beside an instance that is back: %v, it gets %d calls", weight, err, drained.calls.Load())
				}
			})
		}
	}
}

// With a health check, an instance that is connected and says that it does not serve keeps no calls from drained instances.
func TestNewClient_DrainedInstancesServeIfNoOtherIsHealthy(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		if isPickFirst(target) {
			return // ignores health checks
		}
		const serving, notServing = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
		var servers []*node
		var set []*registry.Instance
		var healths []*health.Server
		for i := range 3 {
			h := health.NewServer()
			h.SetServingStatus(service, serving)
			s := n.listenWith(addressIn(i), func(gs *grpc.Server) { healthpb.RegisterHealthServer(gs, h) })
			servers, set, healths = append(servers, s), append(set, at(s, registry.Passing)), append(healths, h)
		}
		drained := servers[0]
		set[0].Weight = 0
		conn := n.client(target + "&health=" + service)
		call := func(when string) (toDrained int64) {
			n.Helper()
			time.Sleep(10 * time.Second) // of the bubble, so that the channel has settled
			before := drained.calls.Load()
			if failed, err := n.call(conn, 20); failed > 0 {
				n.Errorf("%s, %d of 20 calls fail: %v", when, failed, err)
			}
			return drained.calls.Load() - before
		}
		n.says(nil, set...)
		if calls := call("all serve"); calls > 0 {
			n.Errorf("all serve, and the drained instance gets %d calls", calls)
		}
		healths[1].SetServingStatus(service, notServing)
		if calls := call("one serves"); calls > 0 {
			n.Errorf("one serves, and the drained instance gets %d calls", calls)
		}
		healths[2].SetServingStatus(service, notServing)
		if calls := call("only the drained instance serves"); calls != 20 {
			n.Errorf("only the drained instance serves, and gets %d of 20 calls", calls)
		}
		healths[2].SetServingStatus(service, serving)
		calls := call("one serves again")
		if calls > 0 && !strings.Contains(target, "least_request") { // which does not show which of its endpoints serve
			n.Errorf("one serves again, and the drained instance gets %d calls", calls)
		}
		n.crash(servers[1])
		n.crash(servers[2])
		for i := 1; i < 3; i++ {
			n.listen(addressIn(i)) // a server without a health service counts as healthy
		}
		if calls := call("all are connected again"); calls > 0 {
			n.Errorf("all are connected again, and the drained instance gets %d calls", calls)
		}
	})
}

// isPickFirst reports whether the target selects pick_first, which keeps its connection.
func isPickFirst(target string) bool { return target == "rollcall:///"+service+"?policy=pick_first" }

// On a channel of grpc.NewClient, gRPC's policies get a drained instance only if no instance with a weight passes. Policies of this module
// get it always.
func TestNewBuilder_DrainedInstances(t *testing.T) {
	for _, name := range []string{"round_robin", "rollcall_round_robin"} {
		inANetwork(t, func(n *network) {
			drained := at(n.listen(addressIn(0)), registry.Passing)
			drained.Weight = 0
			second := at(&node{address: addressIn(1)}, registry.Critical)
			conn, err := grpc.NewClient(target, grpc.WithResolvers(grpcx.NewBuilder(n.script, grpcx.ResolverConfig{})), grpc.WithContextDialer(n.dial),
				grpc.WithTransportCredentials(insecure.NewCredentials()), policy(fmt.Sprintf(`{%q:{}}`, name)))
			if err != nil {
				n.Fatal(err)
			}
			n.Cleanup(func() { conn.Close() })
			conn.Connect()
			n.says(nil, drained, second)
			if failed, err := n.call(conn, 10); failed > 0 {
				n.Errorf("%s, beside a critical one: %v", name, err)
			}
			n.says(nil, drained, with(registry.Passing, second)[0])
			time.Sleep(10 * time.Second)
			failed, err := n.call(conn, 10)
			if want := map[string]int{"round_robin": 10, "rollcall_round_robin": 0}[name]; failed != want {
				n.Errorf("%s, beside an instance without a connection: %d of 10 calls fail, %v", name, failed, err)
			}
		})
	}
}

func TestRingHash_KeepsSessionsOverARestartWithNewAddresses(t *testing.T) {
	store := newStore(t)
	const instances, sessions = 5, 200
	owners := func(conn grpc.ClientConnInterface, ids map[string]string) (out [sessions]string) {
		for i := range out {
			who, err := call(withHash(t, i), conn)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = ids[who]
		}
		return out
	}
	ids := map[string]string{}
	var entries []registry.Registration
	start := func(i int) registry.Registration {
		b := newBackend(t).serve(t)
		g, err := store.Register(watchtest.Context(t), registry.Instance{ID: "shop-" + strconv.Itoa(i), Service: service, Address: b.address()})
		if err != nil {
			t.Fatal(err)
		}
		ids[b.address()] = g.Instance().ID
		return g
	}
	for i := range instances {
		entries = append(entries, start(i))
	}
	conn := dial(t, target, store, policy(`{"ring_hash_experimental":{"requestHashHeader":"k"}}`))
	settled := func() (now [sessions]string) {
		// ring_hash connects to the instances that it picks, so that the first calls may go to others.
		last := owners(conn, ids)
		watchtest.Eventually(t, "the sessions to settle", func() bool {
			now = owners(conn, ids)
			same := now == last && len(distinct(now[:])) == instances
			last = now
			return same
		})
		return now
	}
	before := settled()
	old := maps.Clone(ids)
	for i, g := range entries {
		if err := g.Deregister(watchtest.Context(t)); err != nil {
			t.Fatal(err)
		}
		start(i)
	}
	// All instances have new addresses now.
	watchtest.Eventually(t, "the calls to leave the old addresses", func() bool {
		for i := range sessions {
			if who, err := call(withHash(t, i), conn); err != nil || old[who] != "" {
				return false
			}
		}
		return true
	})
	after := settled()
	moved := 0
	for i := range before {
		if before[i] != after[i] {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d of %d sessions moved", moved, sessions)
	}
}

// withHash returns a context whose calls belong to one session.
func withHash(t *testing.T, session int) context.Context {
	return metadata.AppendToOutgoingContext(watchtest.Context(t), "k", strconv.Itoa(session))
}

func distinct(all []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range all {
		out[s] = true
	}
	return out
}

func TestPolicies_SurviveWeightsNearTheLimits(t *testing.T) {
	for name := range ours {
		inANetwork(t, func(n *network) {
			weights := []int{math.MaxInt, math.MaxInt - 1, math.MinInt, -1, 1}
			var set []*registry.Instance
			for i, w := range weights {
				in := at(n.listen(addressIn(i)), registry.Passing)
				in.Weight = w
				set = append(set, in)
			}
			conn := n.client(target + "?policy=" + name)
			n.says(nil, set...)
			if failed, err := n.call(conn, 100); failed > 0 {
				n.Errorf("%s: %v", name, err)
			}
			for i := range 2 {
				if calls := n.nodes[addressIn(i)].calls.Load(); calls < 20 {
					n.Errorf("%s: weight %d gets %d of 100 calls", name, weights[i], calls)
				}
			}
			for i := 2; i < 4; i++ {
				if calls := n.nodes[addressIn(i)].calls.Load(); calls > 0 {
					n.Errorf("%s: weight %d gets %d calls", name, weights[i], calls)
				}
			}
		})
	}
}

// The policy of the example honours health=NAME.
func TestExamplePolicy_HonoursHealthChecks(t *testing.T) {
	Example_policy()
	inANetwork(t, func(n *network) {
		var set []*registry.Instance
		for i, s := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING} {
			h := health.NewServer()
			h.SetServingStatus(service, s)
			in := at(n.listenWith(addressIn(i), func(gs *grpc.Server) { healthpb.RegisterHealthServer(gs, h) }), registry.Passing)
			in.Version = "blue"
			set = append(set, in)
		}
		conn := n.client(target + "?policy=blue&health=" + service)
		n.says(nil, set...)
		if failed, err := n.call(conn, 20); failed > 0 || n.nodes[addressIn(0)].calls.Load() > 0 {
			n.Errorf("%d calls fail, %v; the server that does not serve gets %d", failed, err, n.nodes[addressIn(0)].calls.Load())
		}
	})
}

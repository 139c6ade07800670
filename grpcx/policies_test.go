package grpcx_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	experimental "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// ours has the config of each policy of this module.
var ours = map[string]string{
	"rollcall_round_robin": `{"rollcall_round_robin":{}}`,
	weighted.Name:          `{"rollcall_weighted":{}}`,
	zone.Name:              `{"rollcall_zone":{"zone":"here","threshold":0.7}}`,
	p2c.Name:               `{"rollcall_p2c":{}}`,
}

func TestPolicies_HonourHealthChecks(t *testing.T) {
	configs := map[string]string{
		"round_robin":                `{"round_robin":{}}`,
		"least_request_experimental": `{"least_request_experimental":{}}`,
	}
	for name, config := range ours {
		configs[name] = config
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			var servers []*backend
			var healths []*health.Server
			for range 3 {
				b, h := newBackend(t), health.NewServer()
				healthpb.RegisterHealthServer(b.gs, h)
				b.serve(t)
				servers, healths = append(servers, b), append(healths, h)
				registerAddress(t, store, b.address())
			}
			healths[0].SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			healths[1].SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
			healths[2].SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
			conn := dial(t, target, store, grpc.WithDefaultServiceConfig(
				`{"healthCheckConfig":{"serviceName":"`+service+`"},"loadBalancingConfig":[`+config+`]}`))
			answers(t, conn, servers[1].address(), servers[2].address())
			for range 60 {
				if _, err := call(watchtest.Context(t), conn); err != nil {
					t.Fatal(err)
				}
			}
			watchtest.Eventually(t, "a connection to the first", func() bool { return servers[0].lis.accepted.Load() == 1 })
			if n := servers[0].calls.Load(); n != 0 {
				t.Errorf("the server that never was SERVING got %d calls", n)
			}
			healths[0].SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
			answers(t, conn, servers[0].address())
			for _, h := range healths {
				h.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			}
			watchtest.Eventually(t, "calls to fail with what the check says", func() bool {
				_, err := call(watchtest.Context(t), conn)
				return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "health check")
			})
			connectedOnce(t, servers)
		})
	}
}

func TestPolicies_ReportThatNoInstanceIsRegistered(t *testing.T) {
	for name, config := range ours {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			servers, entries := backends(t, store, 1, 1)
			conn := dial(t, target+"?empty-grace=0", store, policy(config))
			ready(t, conn, servers)
			for _, g := range entries {
				if err := g.Deregister(watchtest.Context(t)); err != nil {
					t.Fatal(err)
				}
			}
			watchtest.Eventually(t, "calls to say so", func() bool {
				_, err := call(watchtest.Context(t), conn)
				return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `service "backend" in memory`)
			})
			answered := make(chan error, 1)
			go func() {
				_, err := call(watchtest.Context(t), conn, grpc.WaitForReady(true))
				answered <- err
			}()
			registerAddress(t, store, servers[0].address())
			if err := <-answered; err != nil {
				t.Errorf("a call that waits says %v", err)
			}
		})
	}
}

func TestWeighted_SpreadsCallsByWeight(t *testing.T) {
	store := newStore(t)
	servers, entries := backends(t, store, 1, 2, 3)
	conn := dial(t, target, store, policy(ours[weighted.Name]))
	ready(t, conn, servers)
	if got := shares(t, conn, servers, 60, nil); got[0] != 10 || got[1] != 20 || got[2] != 30 {
		t.Errorf("of 60 calls the weights 1, 2 and 3 get %v", got)
	}
	for i, w := range []int{30, 20, 10} {
		in := entries[i].Instance()
		in.Weight = w
		if err := entries[i].Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	watchtest.Eventually(t, "the weights to change", func() bool {
		got := shares(t, conn, servers, 60, nil)
		return got[0] == 30 && got[1] == 20 && got[2] == 10
	})
	connectedOnce(t, servers)
}

// zonePicks counts the picks that rollcall_zone records.
type zonePicks struct {
	experimental.UnimplementedMetricsRecorder
	local, other atomic.Int64
}

// RecordInt64Count implements [experimental.MetricsRecorder].
func (p *zonePicks) RecordInt64Count(h *experimental.Int64CountHandle, n int64, labels ...string) {
	switch strings.Join(append([]string{h.Descriptor().Name}, labels...), " ") {
	case "rollcall.zone.picks local":
		p.local.Add(n)
	case "rollcall.zone.picks other":
		p.other.Add(n)
	}
}

func (*zonePicks) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*zonePicks) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*zonePicks) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*zonePicks) HandleConn(context.Context, stats.ConnStats)                       {}

func TestZone_SpillsOver(t *testing.T) {
	store := newStore(t)
	var servers []*backend
	for _, z := range []string{"here", "here", "there"} {
		b := newBackend(t).serve(t)
		if _, err := store.Register(watchtest.Context(t), registry.Instance{Service: service, Address: b.address(), Zone: z}); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, b)
	}
	var recorded zonePicks
	conn := dial(t, target, store, policy(ours[zone.Name]), grpc.WithStatsHandler(&recorded))
	stay := func(want ...int64) {
		t.Helper()
		defer func() {
			t.Helper()
			recorded.local.Store(0)
			recorded.other.Store(0)
			got := shares(t, conn, servers, 70, nil)
			if l, o := recorded.local.Load(), recorded.other.Load(); l != got[0]+got[1] || o != got[2] {
				t.Errorf("it records %d local and %d other picks, and the servers get %v", l, o, got)
			}
		}()
		watchtest.Eventually(t, "the calls to settle", func() bool {
			for i, n := range shares(t, conn, servers, 70, nil) {
				if n < want[i]-1 || n > want[i]+1 {
					return false
				}
			}
			return true
		})
	}
	stay(35, 35, 0)
	// Its last call has ended, so no call is lost when the connection is closed.
	address := servers[0].address()
	servers[0].gs.GracefulStop()
	stay(0, 50, 20) // 1/2 of 0.7
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	back := &backend{gs: grpc.NewServer(), lis: &countingListener{Listener: lis}}
	testpb.RegisterTestServiceServer(back.gs, back)
	servers[0] = back.serve(t)
	stay(35, 35, 0)
}

// Instances that do not pass are not among the endpoints, and count all the same.
func TestZone_CountsInstancesThatDoNotPass(t *testing.T) {
	store := newStore(t)
	var servers []*backend
	var entries []registry.Registration
	for _, z := range []string{"here", "here", "here", "here", "there", "there"} {
		b := newBackend(t).serve(t)
		g, err := store.Register(watchtest.Context(t), registry.Instance{Service: service, Address: b.address(), Zone: z})
		if err != nil {
			t.Fatal(err)
		}
		servers, entries = append(servers, b), append(entries, g)
	}
	conn := dial(t, target, store, policy(ours[zone.Name]))
	leave := func(want int64) {
		t.Helper()
		watchtest.Eventually(t, "the calls to settle", func() bool {
			got := shares(t, conn, servers, 70, nil)
			n := got[4] + got[5]
			return n >= want-1 && n <= want+1 && (want == 0) == (n == 0)
		})
	}
	leave(0)
	for _, g := range entries[:2] {
		in := g.Instance()
		in.Status = registry.Critical
		if err := g.Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	leave(20) // 1 - 1/2 of 0.7
	if err := entries[0].Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	leave(3) // 2 of 3 pass: 1 - 2/3 of 0.7
	in := entries[1].Instance()
	in.Status = registry.Maintenance
	if err := entries[1].Update(watchtest.Context(t), in); err != nil {
		t.Fatal(err)
	}
	leave(0)
	for _, b := range servers[2:] {
		if n := b.lis.accepted.Load(); n != 1 {
			t.Errorf("%s was connected to %d times", b.address(), n)
		}
	}
}

func TestP2C_AvoidsSlowServer(t *testing.T) {
	inANetwork(t, func(n *network) {
		var servers []*node
		var set []*registry.Instance
		for i := range 3 {
			servers = append(servers, n.listen(addressIn(i)))
			set = append(set, at(servers[i], registry.Passing))
		}
		slow := servers[2]
		slow.handle = func(context.Context) error {
			time.Sleep(500 * time.Millisecond) // of the bubble
			return nil
		}
		conn := n.client(target + "?policy=" + p2c.Name)
		n.says(nil, set...)
		if failed, err := n.call(conn, 300); failed > 0 {
			n.Error(err)
		}
		if calls := slow.calls.Load(); calls > 30 {
			n.Errorf("of 300 calls the slow server gets %d, the others %d and %d", calls, servers[0].calls.Load(), servers[1].calls.Load())
		}
	})
}

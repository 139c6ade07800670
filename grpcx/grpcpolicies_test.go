package grpcx_test

import (
	"strconv"
	"testing"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Tests of gRPC's own policies with our resolver. The test of outlier detection is in the module internal/xdstest, since it needs gRPC's xds
// packages.

func policy(config string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[` + config + `]}`)
}

// backends returns servers that are registered with these weights, and their registrations.
func backends(t *testing.T, store *memory.Registry, weights ...int) ([]*backend, []registry.Registration) {
	t.Helper()
	var servers []*backend
	var entries []registry.Registration
	for _, w := range weights {
		b := newBackend(t).serve(t)
		g, err := store.Register(watchtest.Context(t), registry.Instance{Service: service, Address: b.address(), Weight: w})
		if err != nil {
			t.Fatal(err)
		}
		servers, entries = append(servers, b), append(entries, g)
	}
	return servers, entries
}

// ready waits until conn calls all of them, and sets their counters to 0.
func ready(t *testing.T, conn grpc.ClientConnInterface, servers []*backend) {
	t.Helper()
	var addresses []string
	for _, b := range servers {
		addresses = append(addresses, b.address())
	}
	answers(t, conn, addresses...)
	for _, b := range servers {
		b.calls.Store(0)
	}
}

// shares makes n calls, and returns how many each server got. header gives the value of metadata "k" of the i-th.
func shares(t *testing.T, conn grpc.ClientConnInterface, servers []*backend, n int, header func(i int) string) []int64 {
	t.Helper()
	for _, b := range servers {
		b.calls.Store(0)
	}
	for i := range n {
		ctx := watchtest.Context(t)
		if header != nil {
			ctx = metadata.AppendToOutgoingContext(ctx, "k", header(i))
		}
		if _, err := call(ctx, conn); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]int64, len(servers))
	for i, b := range servers {
		out[i] = b.calls.Load()
	}
	return out
}

// connectedOnce reports every server that was not connected to exactly once.
func connectedOnce(t *testing.T, servers []*backend) {
	t.Helper()
	for i, b := range servers {
		if n := b.lis.accepted.Load(); n != 1 {
			t.Errorf("server %d was connected to %d times", i, n)
		}
	}
}

func TestRoundRobin_Works(t *testing.T) {
	store := newStore(t)
	servers, entries := backends(t, store, 1, 1, 1)
	conn := dial(t, target, store, policy(`{"round_robin":{}}`))
	ready(t, conn, servers)
	for i, n := range shares(t, conn, servers, 300, nil) {
		if n != 100 {
			t.Errorf("server %d gets %d of 300 calls", i, n)
		}
	}
	if err := entries[0].Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the calls to leave the first", func() bool { return shares(t, conn, servers, 10, nil)[0] == 0 })
	if got := shares(t, conn, servers, 100, nil); got[1] != 50 || got[2] != 50 {
		t.Errorf("of 100 calls the others get %v", got)
	}
	connectedOnce(t, servers)
}

func TestLeastRequest_Works(t *testing.T) {
	store := newStore(t)
	servers, _ := backends(t, store, 1, 1, 1)
	conn := dial(t, target, store, policy(`{"least_request_experimental":{"choiceCount":10}}`))
	ready(t, conn, servers)
	for range 30 {
		s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(watchtest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range servers {
		// With ten choices it compares all three instances in 19 of 20 picks.
		if n := b.streams.Load(); n < 7 || n > 13 {
			t.Errorf("server %d has %d of 30 streams", i, n)
		}
	}
}

func TestRingHash_UsesWeights(t *testing.T) {
	store := newStore(t)
	servers, entries := backends(t, store, 1, 1, 8)
	conn := dial(t, target, store, policy(`{"ring_hash_experimental":{"requestHashHeader":"k"}}`))
	// ring_hash connects to the instances that it picks, so that the first calls may go to other instances than later calls.
	watchtest.Eventually(t, "it to have called all", func() bool {
		got := shares(t, conn, servers, 100, strconv.Itoa)
		return got[0] > 0 && got[1] > 0 && got[2] > 0
	})
	if got := shares(t, conn, servers, 500, strconv.Itoa); got[2] < 325 || got[2] > 475 {
		t.Errorf("of 500 calls the weights 1, 1 and 8 get %v", got)
	}
	for _, key := range []string{"a", "b", "c"} {
		who := 0
		for _, n := range shares(t, conn, servers, 20, func(int) string { return key }) {
			if n == 20 {
				who++
			}
		}
		if who != 1 {
			t.Errorf("20 calls with one key go to several servers")
		}
	}

	for i, w := range []int{8, 1, 1} {
		in := entries[i].Instance()
		in.Weight = w
		if err := entries[i].Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	watchtest.Eventually(t, "the weights to change", func() bool {
		got := shares(t, conn, servers, 100, strconv.Itoa)
		return got[0] > 50
	})
	if got := shares(t, conn, servers, 500, strconv.Itoa); got[0] < 325 || got[0] > 475 {
		t.Errorf("of 500 calls the weights 8, 1 and 1 get %v", got)
	}
	connectedOnce(t, servers)
}

func TestPickFirst_Works(t *testing.T) {
	for _, config := range []string{`{"pick_first":{}}`, `{"pick_first":{"shuffleAddressList":true}}`} {
		store := newStore(t)
		servers, entries := backends(t, store, 1, 1, 1)
		conn := dial(t, target, store, policy(config))
		chosen := -1
		for i, n := range shares(t, conn, servers, 30, nil) {
			if n == 30 {
				chosen = i
			}
		}
		if chosen < 0 {
			t.Fatalf("%s: 30 calls go to several servers", config)
		}
		if err := entries[chosen].Deregister(watchtest.Context(t)); err != nil {
			t.Fatal(err)
		}
		watchtest.Eventually(t, "the calls to leave", func() bool { return shares(t, conn, servers, 1, nil)[chosen] == 0 })
		if got := shares(t, conn, servers, 30, nil); got[chosen] != 0 {
			t.Errorf("%s: after it left, the first still gets %d calls", config, got[chosen])
		}
	}
}

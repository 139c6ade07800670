// Package etcd_test holds the formats of package etcd to the frameworks' own code: what we announce, their clients find and
// call; what their servers announce, we find.
package etcd_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// patience bounds what must happen. It is spent in full only where a test fails.
const patience = 60 * time.Second

// The frameworks keep connections and goroutines for the life of the process, so nothing here looks for what was left
// running. Package etcd does.

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and still not: %s", patience, what)
		}
	}
}

// connect returns our client of an etcd, with a format.
func connect(t *testing.T, server *testbed.Etcd, format string) *registry.Registry {
	t.Helper()
	r, err := etcd.New(etcd.Config{
		Endpoints: []string{server.Addr()}, Format: format, TTL: 5 * time.Second,
		Options: registry.Options{Logger: slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// clientOf returns etcd's own client.
func clientOf(t *testing.T, server *testbed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func register(t *testing.T, r *registry.Registry, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(within(t), in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func deregister(t *testing.T, g registry.Registration) {
	t.Helper()
	if err := g.Deregister(within(t)); err != nil {
		t.Fatal(err)
	}
}

// until returns the first set of the service that is as wanted.
func until(t *testing.T, r *registry.Registry, service, what string, ok func([]*registry.Instance) bool) []*registry.Instance {
	t.Helper()
	var last []*registry.Instance
	for set, err := range r.Watch(within(t), registry.Query{Service: service}) {
		if last = set; err == nil && ok(set) {
			return set
		}
	}
	t.Fatalf("waited %v for %s; the last set is %+v", patience, what, last)
	return nil
}

func none(set []*registry.Instance) bool { return len(set) == 0 }

// at is a set of the addresses given.
func at(addresses ...string) func([]*registry.Instance) bool {
	slices.Sort(addresses)
	return func(set []*registry.Instance) bool {
		var have []string
		for _, in := range set {
			have = append(have, in.Address)
		}
		slices.Sort(have)
		return slices.Equal(have, addresses)
	}
}

func wantServices(t *testing.T, r *registry.Registry, want ...string) {
	t.Helper()
	names, err := r.Services(within(t))
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("the services are %q, %v, want %q", names, err, want)
	}
}

// startBackend starts a gRPC server and returns its address.
func startBackend(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	var work sync.WaitGroup
	work.Go(func() { srv.Serve(listener) })
	t.Cleanup(func() { srv.Stop(); work.Wait() })
	return listener.Addr().String()
}

// callsReach makes calls until they reach exactly the backends at these addresses.
func callsReach(t *testing.T, conn grpc.ClientConnInterface, addresses ...string) {
	t.Helper()
	slices.Sort(addresses)
	eventually(t, "calls reach the backends that are announced, and no others", func() bool {
		reached := map[string]bool{}
		for range 40 {
			var p peer.Peer
			_, err := grpc_health_v1.NewHealthClient(conn).Check(within(t), &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&p))
			if err != nil {
				return false
			}
			reached[p.Addr.String()] = true
		}
		for _, a := range addresses {
			if !reached[a] {
				return false
			}
		}
		return len(reached) == len(addresses)
	})
}

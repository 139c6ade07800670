// Package consul_test holds package consul to the frameworks' own code: what we announce, their clients find and call; what
// they announce, we find.
package consul_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// patience bounds what must happen. It is spent in full only where a test fails.
const patience = 60 * time.Second

// The frameworks keep connections and goroutines for the life of the process, so nothing here looks for what was left
// running. Package consul does.

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

// start returns an agent, and our client of it.
func start(t *testing.T) (*testbed.Consul, *registry.Registry) {
	t.Helper()
	t.Setenv(api.HTTPAddrEnvName, "")
	agent := testbed.StartConsul(t)
	r, err := consul.New(consul.Config{Address: agent.Addr(), Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return agent, r
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

// until returns the first set of the service that is at these addresses.
func until(t *testing.T, r *registry.Registry, service string, addresses ...string) []*registry.Instance {
	t.Helper()
	slices.Sort(addresses)
	var last []*registry.Instance
	for set, err := range r.Watch(within(t), registry.Query{Service: service}) {
		var have []string
		for _, in := range set {
			have = append(have, in.Address)
		}
		slices.Sort(have)
		if last = set; err == nil && slices.Equal(have, addresses) {
			return set
		}
	}
	t.Fatalf("waited %v for %s at %v; the last set is %+v", patience, service, addresses, last)
	return nil
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

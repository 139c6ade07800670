package grpcx_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// statuses returns how the registry has each service.
func statuses(t *testing.T, store *memory.Registry, services ...string) []registry.Status {
	t.Helper()
	var all []registry.Status
	for _, name := range services {
		set, err := store.Lookup(watchtest.Context(t), registry.Query{Service: name, AnyStatus: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range set {
			all = append(all, in.Status)
		}
	}
	return all
}

func registeredAs(t *testing.T, store *memory.Registry, service string, want registry.Status) {
	t.Helper()
	watchtest.Eventually(t, service+" to be registered as "+want.String(), func() bool {
		return slices.Equal(statuses(t, store, service), []registry.Status{want})
	})
}

func TestServer_ReadinessChangesHealthAndRegistry(t *testing.T) {
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	store := newStore(t)
	s := &grpcx.Server{
		Registrar: store, Instance: registry.Instance{Service: "orders", Status: registry.Warning},
		More: []registry.Instance{{Service: "bills", Version: "2"}}, DrainDelay: -1,
	}
	s.NotReady()
	r := startServer(t, s, newBackend(t))
	registeredAs(t, store, "orders", registry.Critical)
	registeredAs(t, store, "bills", registry.Critical)
	want := func(whole, orders, bills healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for name, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": whole, "grpc.testing.TestService": whole, "orders": orders, "bills": bills,
		} {
			if got := healthOf(t, r.address(), name); got != want {
				t.Errorf("the health of %q is %v, want %v", name, got, want)
			}
		}
	}
	want(not, not, not)

	s.Ready("orders", "unknown")
	want(serving, serving, not)
	registeredAs(t, store, "orders", registry.Warning) // as its Instance says
	registeredAs(t, store, "bills", registry.Critical)

	s.Ready()
	want(serving, serving, serving)
	registeredAs(t, store, "bills", registry.Passing)

	s.NotReady("orders")
	want(serving, not, serving)
	registeredAs(t, store, "orders", registry.Critical)

	// The news waits for the registry, and is the newest then.
	store.Fail(errors.New("down"))
	s.NotReady()
	want(not, not, not)
	s.Ready()
	s.NotReady("bills")
	want(serving, serving, not)
	store.Heal()
	registeredAs(t, store, "orders", registry.Warning)
	registeredAs(t, store, "bills", registry.Critical)

	r.leave()
	if err := r.ends(t); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, store, "orders", "bills"); len(got) != 0 {
		t.Errorf("after the end the registry has %v", got)
	}
}

func TestServer_DrainLeavesRegistryAndServes(t *testing.T) {
	store := newStore(t)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: 10 * time.Millisecond, Signals: []os.Signal{userSignal}}
	if err := s.Drain(watchtest.Context(t)); err == nil {
		t.Error("before Serve, Drain says nothing")
	}
	r := startServer(t, s, newBackend(t))
	registeredAs(t, store, service, registry.Passing)
	conn := direct(t, r.address())
	stream, err := testpb.NewTestServiceClient(conn).FullDuplexCall(watchtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Drain(ended); err != context.Canceled {
		t.Errorf("with a context that has ended, Drain says %v", err)
	}
	for range 2 {
		if err := s.Drain(watchtest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(lookup(t, store)); n != 0 {
		t.Errorf("drained, the registry has %d instances", n)
	}
	if got := healthOf(t, r.address(), service); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("drained, the health is %v", got)
	}
	if _, err := call(watchtest.Context(t), conn); err != nil {
		t.Errorf("drained, a call says %v", err)
	}
	s.Ready() // has no effect, since the server leaves

	if err := raise(userSignal); err != nil {
		t.Fatal(err)
	}
	// The first signal lets what is open finish.
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || err.Error() != "EOF" {
		t.Errorf("the stream ended with %v", err)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if err := s.Drain(watchtest.Context(t)); err != nil {
		t.Errorf("after the end, Drain says %v", err)
	}
}

func TestServer_DrainIsBoundedByDeregisterTimeout(t *testing.T) {
	store := newStore(t)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, DeregisterTimeout: 10 * time.Millisecond}
	r := startServer(t, s, newBackend(t))
	registeredAs(t, store, service, registry.Passing)
	store.Fail(errors.New("down"))
	if err := s.Drain(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := call(watchtest.Context(t), direct(t, r.address()), grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

package grpcx_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestNewClient_HealthParameter(t *testing.T) {
	for parameter, name := range map[string]string{"?health=": "", "?health=shop.v1.Greeter": "shop.v1.Greeter"} {
		store := newStore(t)
		well, ill := newBackend(t), newBackend(t)
		for b, s := range map[*backend]healthpb.HealthCheckResponse_ServingStatus{
			well: healthpb.HealthCheckResponse_SERVING, ill: healthpb.HealthCheckResponse_NOT_SERVING,
		} {
			h := health.NewServer()
			h.SetServingStatus(name, s)
			healthpb.RegisterHealthServer(b.gs, h)
			b.serve(t)
			registerAddress(t, store, b.address())
		}
		conn := dial(t, target+parameter, store)
		answers(t, conn, well.address())
		for range 50 {
			if who, err := call(watchtest.Context(t), conn); err != nil || who != well.address() {
				t.Fatalf("%s: %s answered, %v", parameter, who, err)
			}
		}
		if unasked := dial(t, target, store); unasked != nil {
			answers(t, unasked, well.address(), ill.address())
		}
	}
}

func TestNewClient_PolicyParameter(t *testing.T) {
	store := newStore(t)
	first, second := newBackend(t).serve(t), newBackend(t).serve(t)
	registerAddress(t, store, first.address())
	registerAddress(t, store, second.address())
	conn := dial(t, target+"?policy=pick_first", store)
	one, err := call(watchtest.Context(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if who, err := call(watchtest.Context(t), conn); err != nil || who != one {
			t.Errorf("%s answered, and then %s, %v", one, who, err)
		}
	}
	_, err = grpcx.NewClient(target+"?policy=nobodys", store, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `no balancing policy "nobodys" is registered`) {
		t.Errorf("it says %v", err)
	}
}

func TestNewBuilder_RefusesParametersOfNewClient(t *testing.T) {
	store := newStore(t)
	registerAddress(t, store, newBackend(t).serve(t).address())
	for _, parameter := range []string{"?health=", "?policy=round_robin", "?retry=a.B/C"} {
		conn, err := grpc.NewClient(target+parameter, grpc.WithResolvers(grpcx.NewBuilder(store, grpcx.ResolverConfig{})),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			defer conn.Close()
			_, err = call(watchtest.Context(t), conn)
		}
		if err == nil || !strings.Contains(err.Error(), "are for grpcx.NewClient") {
			t.Errorf("%s says %v", parameter, err)
		}
	}
}

func TestWithResolverConfig_TunesResolver(t *testing.T) {
	store := newStore(t)
	for bad, want := range map[grpcx.ResolverConfig]string{
		{PanicThreshold: 1.5}: "PanicThreshold (panic-threshold): 1.5 is above 1",
		{Subset: -2}:          "Subset (subset): -2 is negative",
		{Scheme: "other"}:     `"other"`,
	} {
		_, err := grpcx.NewClient(target, store, grpc.WithTransportCredentials(insecure.NewCredentials()), grpcx.WithResolverConfig(bad))
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v says %v, want %s", bad, err, want)
		}
	}
	for range 3 {
		registerAddress(t, store, newBackend(t).serve(t).address())
	}
	conn := dial(t, target, store, grpcx.WithResolverConfig(grpcx.ResolverConfig{Subset: 3}),
		grpcx.WithResolverConfig(grpcx.ResolverConfig{Subset: 1, ClientID: "me"}))
	answered := map[string]bool{}
	for range 30 {
		who, err := call(watchtest.Context(t), conn)
		if err != nil {
			t.Fatal(err)
		}
		answered[who] = true
	}
	if len(answered) != 1 {
		t.Errorf("a subset of one is %v", answered)
	}
}

func TestWithServed_ReturnsInstanceOfCall(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	in := registry.Instance{ID: "the-one", Service: service, Address: "10.0.0.1:1", Endpoints: map[string]string{"test": b.address()}, Zone: "z"}
	g, err := store.Register(watchtest.Context(t), in)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, target+"?endpoint=test", store)
	want := func(s *grpcx.Served) {
		t.Helper()
		if in := s.Instance(); in == nil || in.ID != "the-one" || in.Zone != "z" {
			t.Errorf("it was served by %v", in)
		}
	}
	ctx, served := grpcx.WithServed(watchtest.Context(t))
	if served.Instance() != nil {
		t.Error("it was served before it was made")
	}
	if _, err := call(ctx, conn); err != nil {
		t.Fatal(err)
	}
	want(served)

	ctx, served = grpcx.WithServed(watchtest.Context(t))
	stream, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("the stream goes on")
	}
	want(served)

	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	ctx, served = grpcx.WithServed(watchtest.Context(t))
	failed, cancel := context.WithTimeout(ctx, time.Nanosecond)
	defer cancel()
	if _, err := call(failed, conn); err == nil || served.Instance() != nil {
		t.Errorf("a call that went nowhere, %v, was served by %v", err, served.Instance())
	}
	// A channel of others does not know.
	other, err := grpc.NewClient(b.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, served = grpcx.WithServed(watchtest.Context(t))
	if _, err := call(ctx, other); err != nil || served.Instance() != nil {
		t.Errorf("%v, served by %v", err, served.Instance())
	}
}

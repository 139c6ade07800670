package grpcx_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// failingBackend is announced in store, and answers its first calls with UNAVAILABLE.
func failingBackend(t *testing.T, store registry.Registrar, first int64) *atomic.Int64 {
	t.Helper()
	b, calls := newBackend(t), new(atomic.Int64)
	b.gs = grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, q any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		if calls.Add(1) <= first {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		return h(ctx, q)
	}))
	testpb.RegisterTestServiceServer(b.gs, b)
	b.serve(t)
	announce(t, store, b.address())
	return calls
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		first int64
		opts  []grpc.DialOption
		want  codes.Code
		calls int64
	}{
		{2, nil, codes.OK, 3},
		{3, nil, codes.Unavailable, 3},
		{1, []grpc.DialOption{grpc.WithDisableRetry()}, codes.Unavailable, 1},
		{1, []grpc.DialOption{grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)}, codes.Unavailable, 1},
	} {
		store := newStore(t)
		calls := failingBackend(t, store, c.first)
		if _, err := call(patiently(t), dial(t, target, store, c.opts...)); status.Code(err) != c.want || calls.Load() != c.calls {
			t.Errorf("with %d failures and %d options: %v after %d calls, want %v after %d", c.first, len(c.opts), err, calls.Load(), c.want, c.calls)
		}
	}
}

// A service that is down is not made to bear three times its load.
func TestRetriesHaveABudget(t *testing.T) {
	store := newStore(t)
	const many = 300
	calls := failingBackend(t, store, 1<<40)
	conn := dial(t, target, store)
	for range many {
		if _, err := call(patiently(t), conn); status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
	}
	// 50 tokens may be spent on calls that fail, of which each takes one whether it is a retry or not.
	if n := calls.Load(); n < many+25 || n > many+50 {
		t.Errorf("%d calls were made %d times, want 25 to 50 retries", many, n)
	}
}

func TestHealthIsAskedFor(t *testing.T) {
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
			announce(t, store, b.address())
		}
		conn := dial(t, target+parameter, store)
		answers(t, conn, well.address())
		for range 50 {
			if who, err := call(patiently(t), conn); err != nil || who != well.address() {
				t.Fatalf("%s: %s answered, %v", parameter, who, err)
			}
		}
		if unasked := dial(t, target, store); unasked != nil {
			answers(t, unasked, well.address(), ill.address())
		}
	}
}

func TestAPolicyByName(t *testing.T) {
	store := newStore(t)
	first, second := newBackend(t).serve(t), newBackend(t).serve(t)
	announce(t, store, first.address())
	announce(t, store, second.address())
	conn := dial(t, target+"?policy=pick_first", store)
	one, err := call(patiently(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if who, err := call(patiently(t), conn); err != nil || who != one {
			t.Errorf("%s answered, and then %s, %v", one, who, err)
		}
	}
	_, err = grpcx.NewClient(target+"?policy=nobodys", store, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `no balancing policy "nobodys" is registered`) {
		t.Errorf("it says %v", err)
	}
	// The rest of what NewClient sets stays.
	other := newStore(t)
	calls := failingBackend(t, other, 2)
	if _, err := call(patiently(t), dial(t, target+"?policy=pick_first", other)); err != nil || calls.Load() != 3 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

func TestSomeParametersAreForNewClient(t *testing.T) {
	store := newStore(t)
	announce(t, store, newBackend(t).serve(t).address())
	for _, parameter := range []string{"?health=", "?policy=round_robin"} {
		conn, err := grpc.NewClient(target+parameter, grpc.WithResolvers(grpcx.NewBuilder(store, grpcx.ResolverConfig{})),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			defer conn.Close()
			_, err = call(patiently(t), conn)
		}
		if err == nil || !strings.Contains(err.Error(), "are for grpcx.NewClient") {
			t.Errorf("%s says %v", parameter, err)
		}
	}
}

func TestAResolverConfigIsAnOption(t *testing.T) {
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
		announce(t, store, newBackend(t).serve(t).address())
	}
	conn := dial(t, target, store, grpcx.WithResolverConfig(grpcx.ResolverConfig{Subset: 3}),
		grpcx.WithResolverConfig(grpcx.ResolverConfig{Subset: 1, ClientID: "me"}))
	answered := map[string]bool{}
	for range 30 {
		who, err := call(patiently(t), conn)
		if err != nil {
			t.Fatal(err)
		}
		answered[who] = true
	}
	if len(answered) != 1 {
		t.Errorf("a subset of one is %v", answered)
	}
}

func TestWhoServedACall(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	in := registry.Instance{ID: "the-one", Service: service, Address: "10.0.0.1:1", Endpoints: map[string]string{"test": b.address()}, Zone: "z"}
	g, err := store.Register(patiently(t), in)
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
	ctx, served := grpcx.WithServed(patiently(t))
	if served.Instance() != nil {
		t.Error("it was served before it was made")
	}
	if _, err := call(ctx, conn); err != nil {
		t.Fatal(err)
	}
	want(served)

	ctx, served = grpcx.WithServed(patiently(t))
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

	if err := g.Deregister(patiently(t)); err != nil {
		t.Fatal(err)
	}
	ctx, served = grpcx.WithServed(patiently(t))
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
	ctx, served = grpcx.WithServed(patiently(t))
	if _, err := call(ctx, other); err != nil || served.Instance() != nil {
		t.Errorf("%v, served by %v", err, served.Instance())
	}
}

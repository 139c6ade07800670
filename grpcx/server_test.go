package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
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
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// running is a Serve in progress.
type running struct {
	*backend
	leave func()
	done  chan struct{}
	err   error // set before done is closed
}

// run starts s over a new backend.
func run(t *testing.T, s grpcx.Server) *running {
	t.Helper()
	return runOn(t, s, newBackend(t))
}

func runOn(t *testing.T, s grpcx.Server, b *backend) *running {
	t.Helper()
	if s.Instance.Service == "" {
		s.Instance.Service = service
	}
	return startServer(t, &s, b)
}

// startServer starts s, whose methods the test may call. Signals are off unless s sets them.
func startServer(t *testing.T, s *grpcx.Server, b *backend) *running {
	t.Helper()
	if s.Signals == nil {
		s.Signals = []os.Signal{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{backend: b, leave: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Serve(ctx, b.gs, b.lis)
	}()
	t.Cleanup(func() { cancel(); b.gs.Stop(); <-r.done })
	return r
}

func (r *running) ends(t *testing.T) error {
	t.Helper()
	watchtest.Receive(t, "Serve to return", r.done)
	return r.err
}

func lookup(t *testing.T, d registry.Discovery) []*registry.Instance {
	t.Helper()
	set, err := d.Lookup(watchtest.Context(t), registry.Query{Service: service, AnyStatus: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func direct(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func healthOf(t *testing.T, address, name string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	res, err := healthpb.NewHealthClient(direct(t, address)).Check(watchtest.Context(t), &healthpb.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return res.Status
}

func TestServe_RegistersDrainsAndDeregisters(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{Registrar: store, Instance: registry.Instance{Version: "1", Zone: "z"}, DrainDelay: time.Hour})
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	in := lookup(t, store)[0]
	if in.Address != s.address() || in.Version != "1" || in.Zone != "z" || in.Status != registry.Passing {
		t.Errorf("it is registered as %+v, and listens on %s", in, s.address())
	}
	for _, name := range []string{"", service, "grpc.testing.TestService"} {
		if got := healthOf(t, s.address(), name); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("the health of %q is %v", name, got)
		}
	}

	s.leave()
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, store)) == 0 })
	if got := healthOf(t, s.address(), service); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while it drains its health is %v", got)
	}
	if _, err := call(watchtest.Context(t), direct(t, s.address())); err != nil {
		t.Errorf("while it drains a call says %v", err)
	}
	select {
	case <-s.done:
		t.Error("it did not drain")
	default:
	}
}

func TestServe_ReturnsNilWhenContextEnds(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1})
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	s.leave()
	if err := s.ends(t); err != nil || len(lookup(t, store)) != 0 {
		t.Errorf("it returned %v and left %v", err, lookup(t, store))
	}
	if c, err := net.Dial("tcp", s.address()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

func TestServe_ServesWhileRegistryIsDown(t *testing.T) {
	store := newStore(t)
	other := store.Client()
	t.Cleanup(func() { other.Close() })
	store.Fail(errors.New("down"))
	s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1})
	if _, err := call(watchtest.Context(t), direct(t, s.address()), grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if n := len(lookup(t, other)); n != 0 {
		t.Fatalf("%d instances are registered in an outage: the test proves nothing", n)
	}
	store.Heal()
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, other)) == 1 })
	s.leave()
	if err := s.ends(t); err != nil || len(lookup(t, other)) != 0 {
		t.Errorf("it returned %v and left %v", err, lookup(t, other))
	}
}

func TestServe_StopsIfItWasNeverRegistered(t *testing.T) {
	store := newStore(t)
	for _, fault := range []func(){func() { store.Fail(errors.New("down")) }, store.Hang, func() { store.Fail(registry.ErrDenied) }} {
		fault()
		s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1})
		if _, err := call(watchtest.Context(t), direct(t, s.address()), grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		s.leave()
		if err := s.ends(t); err != nil {
			t.Error(err)
		}
	}
	store.Heal()
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("they left %v", set)
	}
}

func TestServe_StopsIfRegistryHangs(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1, DeregisterTimeout: 20 * time.Millisecond})
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	store.Hang()
	s.leave()
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_SecondSignalCutsCalls(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1, StopTimeout: time.Hour, Signals: []os.Signal{userSignal}})
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	stream, err := testpb.NewTestServiceClient(direct(t, s.address())).FullDuplexCall(watchtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	signal := func() {
		if err := raise(userSignal); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, store)) == 0 })
	watchtest.Eventually(t, "it to stop listening", func() bool {
		c, err := net.Dial("tcp", s.address())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := stream.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
		t.Errorf("the stream was cut by the first signal: %v", err)
	}
	signal()
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after the second signal the stream says %v", err)
	}
}

func TestServe_CutsStreamsAfterStopTimeout(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{Registrar: store, DrainDelay: -1, StopTimeout: 50 * time.Millisecond})
	stream, err := testpb.NewTestServiceClient(direct(t, s.address())).FullDuplexCall(watchtest.Context(t), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.leave()
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream says %v", err)
	}
}

// picky is a registrar that refuses what it is given for its content.
type picky struct{}

func (picky) Register(context.Context, registry.Instance) (registry.Registration, error) {
	return nil, fmt.Errorf("%w: Zone: not one of ours", registry.ErrInvalid)
}

func TestServe_StopsIfRegistrarCanNeverWork(t *testing.T) {
	s := run(t, grpcx.Server{Registrar: picky{}, DrainDelay: -1})
	if err := s.ends(t); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "Zone: not one of ours") {
		t.Errorf("it returned %v", err)
	}
}

func TestServe_NamesInvalidFields(t *testing.T) {
	store := newStore(t)
	for want, s := range map[string]grpcx.Server{
		"Server.Registrar is required":                 {},
		"Server.DeregisterTimeout: -1ns":               {Registrar: store, DeregisterTimeout: -1},
		`Service: "a/b" contains '/'`:                  {Registrar: store, Instance: registry.Instance{Service: "a/b"}},
		`Address: "10.0.0.1" is not host:port`:         {Registrar: store, Instance: registry.Instance{Address: "10.0.0.1"}},
		`Weight: -2 is not from -1 (drained) to 65535`: {Registrar: store, Instance: registry.Instance{Weight: -2}},
		`Endpoints["http"]: "x" is not host:port `:     {Registrar: store, Instance: registry.Instance{Endpoints: map[string]string{"http": "x"}}},
	} {
		r := run(t, s)
		if err := r.ends(t); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("it returned %v, want %s", err, want)
		}
		if c, err := net.Dial("tcp", r.address()); err == nil {
			c.Close()
			t.Error("the listener is still open")
		}
	}
}

func TestServe_AdvertisesGivenAddressWithPortOfListener(t *testing.T) {
	store := newStore(t)
	for given, want := range map[string]string{
		"":                 "127.0.0.1:PORT",
		"10.1.2.3:0":       "10.1.2.3:PORT",
		"pod.example.org:": "pod.example.org:PORT",
		"[2001:db8::1]:0":  "[2001:db8::1]:PORT",
		"10.1.2.3:443":     "10.1.2.3:443",
	} {
		s := run(t, grpcx.Server{Registrar: store, Instance: registry.Instance{Address: given}, DrainDelay: -1})
		watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
		_, port, _ := net.SplitHostPort(s.address())
		if got := lookup(t, store)[0].Address; got != strings.Replace(want, "PORT", port, 1) {
			t.Errorf("%q is advertised as %s, want %s with the port of %s", given, got, want, s.address())
		}
		s.leave()
		if err := s.ends(t); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServe_AdvertisesAddressOfHostForWildcardListener(t *testing.T) {
	store := newStore(t)
	lis, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t)
	b.lis.Listener.Close()
	b.lis.Listener = lis
	runOn(t, grpcx.Server{Registrar: store, DrainDelay: -1}, b)
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	host, port, err := net.SplitHostPort(lookup(t, store)[0].Address)
	_, want, _ := net.SplitHostPort(lis.Addr().String())
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() || port != want {
		t.Errorf("it is advertised as %s:%s, %v, and listens on %s", host, port, err, lis.Addr())
	}
}

func TestServer_HealthServiceOfCaller(t *testing.T) {
	store := newStore(t)
	given := health.NewServer()
	b := newBackend(t)
	healthpb.RegisterHealthServer(b.gs, given)
	s := runOn(t, grpcx.Server{Registrar: store, Health: given, DrainDelay: -1}, b)
	watchtest.Eventually(t, "the caller's health service to be told", func() bool {
		res, err := given.Check(context.Background(), &healthpb.HealthCheckRequest{Service: service})
		return err == nil && res.Status == healthpb.HealthCheckResponse_SERVING
	})
	s.leave()
	s.ends(t)

	alone := health.NewServer()
	alone.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
	b = newBackend(t)
	healthpb.RegisterHealthServer(b.gs, alone)
	runOn(t, grpcx.Server{Registrar: store, DrainDelay: -1}, b)
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, store)) == 1 })
	if got := healthOf(t, b.address(), service); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("a health service that was not given was set to %v", got)
	}
}

func TestServe_LosesNoCallInRollingRestart(t *testing.T) {
	store := newStore(t)
	start := func() *running {
		s := run(t, grpcx.Server{Registrar: store, DrainDelay: 20 * time.Millisecond})
		watchtest.Eventually(t, "it to be registered", func() bool {
			for _, in := range lookup(t, store) {
				if in.Address == s.address() {
					return true
				}
			}
			return false
		})
		return s
	}
	servers := []*running{start(), start(), start()}
	conn := dial(t, target, store, grpc.WithDisableRetry())
	for _, s := range servers {
		answers(t, conn, s.address())
	}
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for n := 0; n < 200_000; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := call(watchtest.Context(t), conn); err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
			}
		})
	}
	for i, s := range servers {
		s.leave()
		if err := s.ends(t); err != nil {
			t.Error(err)
		}
		servers[i] = start()
		answers(t, conn, servers[i].address())
	}
	close(stop)
	callers.Wait()
}

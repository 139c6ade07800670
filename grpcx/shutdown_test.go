package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func registered(t *testing.T, d registry.Discovery) {
	t.Helper()
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, d)) == 1 })
}

func kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := raise(sig); err != nil {
		t.Fatal(err)
	}
}

// stubborn ignores the context of its calls, and answers when the test closes release.
type stubborn struct {
	testpb.UnimplementedTestServiceServer
	entered, release chan struct{}
}

func (s *stubborn) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	close(s.entered)
	<-s.release
	return new(testpb.Empty), nil
}

func TestServe_StopsOnSIGTERM(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	done := make(chan error, 1)
	go func() {
		s := grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1}
		done <- s.Serve(context.Background(), b.gs, b.lis)
	}()
	registered(t, store) // and so the signal is awaited, and does not end the test
	kill(t, syscall.SIGTERM)
	if err := watchtest.Receive(t, "Serve to return", done); err != nil || len(lookup(t, store)) != 0 {
		t.Errorf("it returned %v and left %v", err, lookup(t, store))
	}
}

func TestServe_SecondSignalDoesNotWaitForRegistry(t *testing.T) {
	store := newStore(t)
	s := run(t, grpcx.Server{
		Registrar: store, DeregisterTimeout: time.Hour, DrainDelay: time.Hour, StopTimeout: time.Hour, Signals: []os.Signal{userSignal},
	})
	registered(t, store)
	store.Hang()
	defer store.Heal()
	kill(t, userSignal)
	watchtest.Eventually(t, "its health to say that it leaves", func() bool {
		return healthOf(t, s.address(), service).String() == "NOT_SERVING"
	})
	kill(t, userSignal)
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_SecondSignalDoesNotWaitForHandlers(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	h := &stubborn{entered: make(chan struct{}), release: make(chan struct{})}
	b.gs = grpc.NewServer()
	testpb.RegisterTestServiceServer(b.gs, h)
	s := runOn(t, grpcx.Server{
		Registrar: store, DrainDelay: time.Hour, StopTimeout: time.Hour, Signals: []os.Signal{userSignal},
	}, b)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer close(h.release)
	conn := direct(t, b.address())
	callers.Go(func() { call(watchtest.Context(t), conn, grpc.WaitForReady(true)) })
	<-h.entered
	registered(t, store)
	kill(t, userSignal)
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, store)) == 0 })
	kill(t, userSignal)
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
}

// late is a registrar that ignores its context, and registers when the test closes now.
type late struct {
	registry.Registration
	store                   *memory.Registry
	asked, now, deregisters chan struct{}
}

func (l late) Register(_ context.Context, in registry.Instance) (registry.Registration, error) {
	close(l.asked)
	<-l.now
	g, err := l.store.Register(context.Background(), in)
	l.Registration = g
	return l, err
}

func (l late) Deregister(ctx context.Context) error {
	defer close(l.deregisters)
	return l.Registration.Deregister(ctx)
}

func TestServer_DeregistersLateRegistration(t *testing.T) {
	store := newStore(t)
	l := late{store: store, asked: make(chan struct{}), now: make(chan struct{}), deregisters: make(chan struct{})}
	s := run(t, grpcx.Server{Registrar: l, DrainDelay: -1, DeregisterTimeout: 300 * time.Millisecond})
	<-l.asked
	s.leave()
	if err := s.ends(t); err != nil {
		t.Error(err)
	}
	close(l.now)
	watchtest.Receive(t, "the late registration to be deregistered", l.deregisters)
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("it left %v", set)
	}
}

// breakable is a listener whose Accept fails when the test says so.
type breakable struct {
	net.Listener
	broken chan struct{}
}

func (l *breakable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	select {
	case <-l.broken:
		if err == nil {
			c.Close()
		}
		return nil, errors.New("the listener broke")
	default:
		return c, err
	}
}

// breaks makes the Accept in progress the last one.
func (l *breakable) breaks(t *testing.T) {
	t.Helper()
	close(l.broken)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestServe_DrainsConnectedClientsIfListenerFails(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	lis := &breakable{Listener: b.lis.Listener, broken: make(chan struct{})}
	b.lis.Listener = lis
	s := runOn(t, grpcx.Server{Registrar: store, DrainDelay: -1, StopTimeout: time.Hour}, b)
	registered(t, store)
	_, stream := openStream(t, b.address())
	lis.breaks(t)
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, store)) == 0 })
	if err := stream.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
	select {
	case <-s.done:
		t.Error("it returned while a stream was open")
	default:
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.ends(t); err == nil || !strings.Contains(err.Error(), "rollcall: serve backend: the listener broke") {
		t.Errorf("it returned %v", err)
	}
	if n := b.streams.Load(); n != 0 {
		t.Errorf("%d streams are open after the end", n)
	}
}

// panicking is a breakable listener that panics instead of returning an error.
type panicking struct{ *breakable }

func (l panicking) Accept() (net.Conn, error) {
	c, err := l.breakable.Accept()
	if err != nil {
		panic(err)
	}
	return c, nil
}

// Serve panics with the panic of the listener, after the server has left.
func TestServe_DeregistersBeforePanicOfListener(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	lis := &breakable{Listener: b.lis.Listener, broken: make(chan struct{})}
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		s := grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{}}
		done <- s.Serve(context.Background(), b.gs, panicking{lis})
	}()
	registered(t, store)
	lis.breaks(t)
	if got := <-done; !strings.Contains(fmt.Sprint(got), "the listener broke") || !strings.Contains(fmt.Sprint(got), "goroutine") {
		t.Errorf("Serve ended with %v", got)
	}
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("the registry has %v", set)
	}
}

func TestServer_ServesAndWatchesAllListeners(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis := &breakable{Listener: admin, broken: make(chan struct{})}
	s := runOn(t, grpcx.Server{Registrar: store, Listeners: map[string]net.Listener{"admin": lis}, DrainDelay: -1}, b)
	registered(t, store)
	if who, err := call(watchtest.Context(t), dial(t, target+"?endpoint=admin", store)); err != nil || who != admin.Addr().String() {
		t.Errorf("by its name %s was reached, %v", who, err)
	}
	if who, err := call(watchtest.Context(t), dial(t, target, store)); err != nil || who != b.address() {
		t.Errorf("%s was reached, %v", who, err)
	}
	lis.breaks(t)
	if err := s.ends(t); err == nil || !strings.Contains(err.Error(), "the listener broke") {
		t.Errorf("after one listener failed it returned %v", err)
	}
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("the registry has %v", set)
	}
}

func TestServe_LeavesRegistryIfCallerStopsServer(t *testing.T) {
	for name, stop := range map[string]func(*grpc.Server){"Stop": (*grpc.Server).Stop, "GracefulStop": (*grpc.Server).GracefulStop} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			s := run(t, grpcx.Server{Registrar: store, DrainDelay: time.Hour})
			registered(t, store)
			stop(s.gs)
			if err := s.ends(t); err != nil || len(lookup(t, store)) != 0 {
				t.Errorf("it returned %v and left %v", err, lookup(t, store))
			}
		})
	}
}

func TestServer_UnixSocketRequiresAddress(t *testing.T) {
	store := newStore(t)
	for given, want := range map[string]string{"": "Instance.Address is required", "10.0.0.1:0": `Address: "10.0.0.1:0"`} {
		lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		s := grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service, Address: given}, Signals: []os.Signal{}}
		if err := s.Serve(t.Context(), grpc.NewServer(), lis); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("with the address %q it returned %v, want %s", given, err, want)
		}
	}
}

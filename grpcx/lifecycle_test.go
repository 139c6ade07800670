package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// registrar adapts a function to a Registrar.
type registrar func(ctx context.Context, in registry.Instance) (registry.Registration, error)

func (f registrar) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	return f(ctx, in)
}

// unasked returns a Registrar that must not be called.
func unasked(t *testing.T) registrar {
	return func(context.Context, registry.Instance) (registry.Registration, error) {
		t.Error("it registers")
		return nil, registry.ErrInvalid
	}
}

func refusesConnections(t *testing.T, address string) {
	t.Helper()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

func TestServe_RefusesStoppedServer(t *testing.T) {
	for name, stop := range map[string]func(*grpc.Server){"Stop": (*grpc.Server).Stop, "GracefulStop": (*grpc.Server).GracefulStop} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			stop(b.gs)
			r := runOn(t, grpcx.Server{Registrar: unasked(t)}, b)
			err := r.ends(t)
			if !errors.Is(err, registry.ErrClosed) || !errors.Is(err, grpc.ErrServerStopped) ||
				!strings.HasPrefix(err.Error(), "rollcall: serve backend: closed: gs was stopped before Serve") {
				t.Errorf("it returned %v", err)
			}
			refusesConnections(t, b.address())
		})
	}
}

func TestServe_ServesNothingIfContextHasEnded(t *testing.T) {
	b := newBackend(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := grpcx.Server{Registrar: unasked(t), Instance: registry.Instance{Service: service}, DrainDelay: time.Hour}
	if err := s.Serve(ctx, b.gs, b.lis); err != nil {
		t.Errorf("it returned %v", err)
	}
	refusesConnections(t, b.address())
	if err := b.gs.Serve(bufconn.Listen(1)); err != grpc.ErrServerStopped {
		t.Errorf("afterwards gs says %v", err)
	}
	if !isClosed(s.Leaving()) {
		t.Error("Leaving is open")
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("Drain says %v", err)
	}
}

func TestServe_NamesMissingArguments(t *testing.T) {
	lis := func() net.Listener { return newBackend(t).lis }
	for want, serve := range map[string]func(s *grpcx.Server) error{
		"gs is required":  func(s *grpcx.Server) error { return s.Serve(t.Context(), nil, lis()) },
		"lis is required": func(s *grpcx.Server) error { return s.Serve(t.Context(), grpc.NewServer(), nil) },
		"Server.Instance.Service is required; Server.More[0].Service": func(s *grpcx.Server) error {
			s.Instance.Service, s.More = "", []registry.Instance{{}}
			return s.Serve(t.Context(), grpc.NewServer(), lis())
		},
		`Server.Instance.Weight: -7 is not from`: func(s *grpcx.Server) error {
			s.Instance.Weight, s.Instance.Zone = -7, "\xff"
			return s.Serve(t.Context(), grpc.NewServer(), lis())
		},
		`Server.Listeners["x"] is nil`: func(s *grpcx.Server) error {
			s.Listeners = map[string]net.Listener{"x": nil}
			return s.Serve(t.Context(), grpc.NewServer(), lis())
		},
	} {
		s := &grpcx.Server{Registrar: newStore(t), Instance: registry.Instance{Service: service}}
		err := serve(s)
		var e *registry.Error
		if !errors.As(err, &e) || e.Op != "serve" || !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) ||
			strings.Count(err.Error(), "rollcall: ") != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("it returned %v, want %s", err, want)
		}
	}
}

func TestServe_ReturnsOneErrorWithOnePrefix(t *testing.T) {
	store := memory.New()
	store.Close()
	r := run(t, grpcx.Server{Registrar: store, DrainDelay: -1})
	err := r.ends(t)
	var e *registry.Error
	if !errors.As(err, &e) || e.Op != "serve" || e.Service != service || !errors.Is(err, registry.ErrClosed) ||
		strings.Count(err.Error(), "rollcall: ") != 1 || !strings.HasPrefix(err.Error(), "rollcall: serve backend: register backend") {
		t.Errorf("it returned %v", err)
	}
}

func TestServe_RefusesRegistrarThatReturnsNil(t *testing.T) {
	nothing := func(context.Context, registry.Instance) (registry.Registration, error) { return nil, nil }
	r := run(t, grpcx.Server{Registrar: registrar(nothing), DrainDelay: -1})
	if err := r.ends(t); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "Server.Registrar has returned neither") {
		t.Errorf("it returned %v", err)
	}
}

// A registrar may be a wrapper with a timeout of its own and errors of its own.
func TestServe_RetriesTemporaryErrors(t *testing.T) {
	for _, passes := range []error{registry.ErrUnavailable, registry.ErrDenied, context.DeadlineExceeded, context.Canceled, errors.New("no luck")} {
		t.Run(passes.Error(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				store := memory.New()
				defer store.Close()
				attempts := 0
				r := registrar(func(ctx context.Context, in registry.Instance) (registry.Registration, error) {
					if attempts++; attempts < 4 {
						return nil, passes
					}
					return store.Register(ctx, in)
				})
				ctx, leave := context.WithCancel(t.Context())
				done := make(chan error, 1)
				s := grpcx.Server{Registrar: r, Instance: registry.Instance{Service: service, Address: "10.0.0.1:80"}, Signals: []os.Signal{}}
				go func() { done <- s.Serve(ctx, grpc.NewServer(), bufconn.Listen(1)) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				if attempts != 4 || len(s.Registrations()) != 1 {
					t.Errorf("after %d attempts there are %d registrations", attempts, len(s.Registrations()))
				}
				leave()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestServe_PanicsWithPanicOfRegistrarAfterLeaving(t *testing.T) {
	panics := func(context.Context) error { panic("registrar's panic") }
	for name, c := range map[string]struct {
		diary *diary
		leave func(s *grpcx.Server, cancel context.CancelFunc)
	}{
		"in Update":        {&diary{update: panics}, func(s *grpcx.Server, _ context.CancelFunc) { s.NotReady(service) }},
		"when it leaves":   {&diary{update: panics}, func(_ *grpcx.Server, cancel context.CancelFunc) { cancel() }},
		"in Deregister":    {&diary{deregister: panics}, func(_ *grpcx.Server, cancel context.CancelFunc) { cancel() }},
		"in its last word": {&diary{update: panics, deregister: panics}, func(_ *grpcx.Server, cancel context.CancelFunc) { cancel() }},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			c.diary.Registrar = store
			b := newBackend(t)
			s := &grpcx.Server{
				Registrar: registrar(func(ctx context.Context, in registry.Instance) (registry.Registration, error) {
					if in.Service == "other" {
						return store.Register(ctx, in)
					}
					return c.diary.Register(ctx, in)
				}),
				Instance: registry.Instance{Service: service}, More: []registry.Instance{{Service: "other"}}, DrainDelay: -1, Signals: []os.Signal{},
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				done <- s.Serve(ctx, b.gs, b.lis)
			}()
			watchtest.Eventually(t, "both to be registered", func() bool { return len(s.Registrations()) == 2 })
			c.leave(s, cancel)
			got := watchtest.Receive(t, "Serve to end", done)
			if !strings.Contains(fmt.Sprint(got), "registrar's panic") || !strings.Contains(fmt.Sprint(got), "goroutine") {
				t.Errorf("Serve ended with %v", got)
			}
			if got := statuses(t, store, "other"); len(got) != 0 {
				t.Errorf("the other service is registered: %v", got)
			}
			if got := lookup(t, store); c.diary.deregister == nil && len(got) != 0 {
				t.Errorf("the registry has %v", got)
			}
			refusesConnections(t, b.address())
		})
	}
	t.Run("in Register", func(t *testing.T) {
		b := newBackend(t)
		s := grpcx.Server{
			Registrar: registrar(func(context.Context, registry.Instance) (registry.Registration, error) { panic("registrar's panic") }),
			Instance:  registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{},
		}
		defer func() {
			if got := recover(); !strings.Contains(fmt.Sprint(got), "registrar's panic") {
				t.Errorf("Serve panicked with %v", got)
			}
			refusesConnections(t, b.address())
		}()
		t.Errorf("Serve returned %v", s.Serve(t.Context(), b.gs, b.lis))
	})
}

func TestServer_DrainWaitsForAllRuns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		d := &diary{Registrar: store, deregister: func(context.Context) error { time.Sleep(time.Second); return nil }}
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 2)
		s := &grpcx.Server{Registrar: d, Instance: registry.Instance{Service: service, Address: "10.0.0.1:0"}, Signals: []os.Signal{}}
		for _, port := range []int{80, 81} {
			lis := listenerAt{bufconn.Listen(1), &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port}}
			go func() { done <- s.Serve(ctx, grpc.NewServer(), lis) }()
			synctest.Wait()
		}
		if n := len(s.Registrations()); n != 2 || len(lookup(t, store)) != 2 {
			t.Fatalf("%d are registered: %v", n, lookup(t, store))
		}
		s.NotReady()
		synctest.Wait()
		for _, in := range lookup(t, store) {
			if in.Status != registry.Critical {
				t.Errorf("not ready, %s is %v", in.ID, in.Status)
			}
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if set := lookup(t, store); len(set) != 0 {
			t.Errorf("Drain has returned, and the registry has %v", set)
		}
		leave()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			if err := s.Drain(ended); err != nil {
				t.Fatalf("after the end, Drain says %v", err)
			}
		}
	})
}

// listenerAt is a listener with another address.
type listenerAt struct {
	net.Listener
	addr net.Addr
}

func (l listenerAt) Addr() net.Addr { return l.addr }

func TestServer_DrainBeforeServeIsAnError(t *testing.T) {
	s := &grpcx.Server{Registrar: newStore(t), Instance: registry.Instance{Service: service}}
	var e *registry.Error
	if err := s.Drain(t.Context()); !errors.As(err, &e) || e.Error() != "rollcall: drain backend: unavailable: Serve was not called yet" {
		t.Errorf("Drain says %v", err)
	}
	if isClosed(s.Leaving()) {
		t.Error("Leaving is closed")
	}
}

func TestServer_ServesAgainAfterItHasLeft(t *testing.T) {
	store := newStore(t)
	given := health.NewServer()
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, Health: given, DrainDelay: -1}
	for range 2 {
		b := newBackend(t)
		healthpb.RegisterHealthServer(b.gs, given)
		r := startServer(t, s, b)
		registered(t, store)
		if got := healthOf(t, b.address(), service); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("its health is %v", got)
		}
		leaving := s.Leaving()
		if isClosed(leaving) {
			t.Error("Leaving is closed while it serves")
		}
		if err := s.Drain(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
		if got := healthOf(t, b.address(), service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("drained, its health is %v", got)
		}
		watchtest.Receive(t, "Leaving to be closed", leaving)
		r.leave()
		if err := r.ends(t); err != nil {
			t.Error(err)
		}
	}
}

// messages counts log records by their text.
type messages struct {
	slog.Handler
	mu    sync.Mutex
	count map[string]int
}

func (l *messages) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[r.Message]++
	return nil
}

func (l *messages) Enabled(context.Context, slog.Level) bool { return true }
func (l *messages) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l *messages) of(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[message]
}

func TestServer_LogsEachMinuteThatItIsNotRegistered(t *testing.T) {
	for name, fault := range map[string]func(*memory.Registry){
		"down": func(s *memory.Registry) { s.Fail(errors.New("down")) }, "hanging": (*memory.Registry).Hang,
		"denied": func(s *memory.Registry) { s.Fail(registry.ErrDenied) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				store := memory.New()
				defer store.Close()
				fault(store)
				log := &messages{count: map[string]int{}}
				s := grpcx.Server{
					Registrar: store, Instance: registry.Instance{Service: service, Address: "10.0.0.1:80"}, Signals: []os.Signal{}, Logger: slog.New(log),
				}
				ctx, leave := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Serve(ctx, grpc.NewServer(), bufconn.Listen(1)) }()
				time.Sleep(10*time.Minute + time.Second)
				if n := log.of("rollcall: not registered yet"); n != 10 {
					t.Errorf("in 10 minutes it said so %d times", n)
				}
				denied := 0
				if name == "denied" {
					denied = 1
				}
				if n := log.of("rollcall: registering failed, retrying"); n != denied {
					t.Errorf("it logged %d attempts, want %d", n, denied)
				}
				store.Heal()
				time.Sleep(time.Minute)
				if n := log.of("rollcall: registered"); n != 1 {
					t.Errorf("it says %d times that it is registered", n)
				}
				leave()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

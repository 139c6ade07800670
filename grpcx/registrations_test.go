package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestServer_LeavingIsClosedBeforeRegistryIsUpdated(t *testing.T) {
	for name, leave := range map[string]func(*running, *grpcx.Server){
		"ctx":    func(r *running, _ *grpcx.Server) { r.leave() },
		"signal": func(*running, *grpcx.Server) { kill(t, userSignal) },
		"Drain":  func(_ *running, s *grpcx.Server) { s.Drain(watchtest.Context(t)) },
		"Stop":   func(r *running, _ *grpcx.Server) { r.gs.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			d := &diary{Registrar: store}
			s := &grpcx.Server{
				Registrar: d, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{userSignal},
			}
			leaving := s.Leaving()
			told := make(chan bool, 1)
			var health healthpb.HealthCheckResponse_ServingStatus
			r := startServer(t, s, newBackend(t))
			d.update = func(context.Context) error {
				if name != "Stop" {
					health = healthOf(t, r.address(), service)
				}
				told <- isClosed(leaving)
				return nil
			}
			registered(t, store)
			if isClosed(leaving) || isClosed(s.Leaving()) {
				t.Error("it is closed while the server serves")
			}
			leave(r, s)
			if !<-told {
				t.Error("it is open when the registry is told")
			}
			if health == healthpb.HealthCheckResponse_SERVING {
				t.Error("its health is SERVING when the registry is told")
			}
			if !isClosed(s.Leaving()) {
				t.Error("it is open when asked for again")
			}
		})
	}
}

func TestServer_LeavingIsClosedWhenDrainReturns(t *testing.T) {
	store := newStore(t)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: time.Hour}
	startServer(t, s, newBackend(t))
	registered(t, store)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Drain(ended); err != context.Canceled {
		t.Errorf("Drain says %v", err)
	}
	if !isClosed(s.Leaving()) {
		t.Error("it is open")
	}
}

func TestServer_LeavingIsClosedIfServeFails(t *testing.T) {
	s := new(grpcx.Server)
	leaving := s.Leaving()
	r := startServer(t, s, newBackend(t))
	if err := r.ends(t); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("it returned %v", err)
	}
	if !isClosed(leaving) {
		t.Error("it is open")
	}
}

// choosy is a registrar that registers one service when the test says so.
type choosy struct {
	registry.Registrar
	service string
	now     chan struct{}
}

func (c choosy) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	if in.Service == c.service {
		select {
		case <-c.now:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.Registrar.Register(ctx, in)
}

func TestServer_RegistrationsReturnsSuccessfulOnes(t *testing.T) {
	store := newStore(t)
	c := choosy{store, "b", make(chan struct{})}
	s := &grpcx.Server{
		Registrar: c, Instance: registry.Instance{Service: "a"}, More: []registry.Instance{{Service: "b"}, {Service: "c"}}, DrainDelay: -1,
	}
	services := func() (names []string) {
		for _, r := range s.Registrations() {
			if err := r.Err(); err != nil {
				t.Errorf("%s is not registered: %v", r.Instance().ID, err)
			}
			names = append(names, r.Instance().Service)
		}
		return names
	}
	if got := services(); len(got) != 0 {
		t.Errorf("before Serve there are %v", got)
	}
	r := startServer(t, s, newBackend(t))
	watchtest.Eventually(t, "two to be registered", func() bool { return slices.Equal(services(), []string{"a", "c"}) })
	close(c.now)
	watchtest.Eventually(t, "all to be registered", func() bool { return slices.Equal(services(), []string{"a", "b", "c"}) })
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if got := services(); len(got) != 0 {
		t.Errorf("after the end there are %v", got)
	}
}

func TestServer_UpdateSurvivesChangeOfReadiness(t *testing.T) {
	store := newStore(t)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service, Version: "1"}, DrainDelay: -1}
	startServer(t, s, newBackend(t))
	registered(t, store)
	watchtest.Eventually(t, "its registration", func() bool { return len(s.Registrations()) == 1 })
	r := s.Registrations()[0]
	update := func(change func(*registry.Instance)) {
		t.Helper()
		in := r.Instance()
		change(&in)
		if err := r.Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when string, weight int, status registry.Status) {
		t.Helper()
		watchtest.Eventually(t, fmt.Sprintf("%v and weight %d when %s", status, weight, when), func() bool {
			set := lookup(t, store)
			return len(set) == 1 && set[0].Weight == weight && set[0].Status == status && set[0].Version == "1"
		})
	}
	update(func(in *registry.Instance) { in.Weight = 5 })
	is("updated", 5, registry.Passing)
	s.NotReady()
	is("not ready", 5, registry.Critical)
	update(func(in *registry.Instance) { in.Weight = 7 }) // with the status that it has
	is("updated and not ready", 7, registry.Critical)
	update(func(in *registry.Instance) { in.Weight, in.Status = 8, registry.Passing })
	is("updated to pass and not ready", 8, registry.Critical)
	s.Ready()
	is("ready", 8, registry.Passing)
	update(func(in *registry.Instance) { in.Status = registry.Warning })
	s.NotReady()
	is("not ready again", 8, registry.Critical)
	s.Ready()
	is("ready again", 8, registry.Warning)
	if err := r.Update(watchtest.Context(t), registry.Instance{Address: "nowhere"}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("an address that is none is %v", err)
	}
	s.NotReady()
	is("not ready, after an update that was refused", 8, registry.Critical)
}

// The status that a server gives and the content that the application gives are written at the same time, in either order.
func TestServer_UpdateAndReadinessAreWrittenConcurrently(t *testing.T) {
	for _, first := range []string{"update", "status"} {
		t.Run(first+" first", func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				store := memory.New()
				defer store.Close()
				d := &diary{Registrar: store}
				s := grpcx.Server{
					Registrar: d, Instance: registry.Instance{Service: service, Address: "10.0.0.1:80"}, Signals: []os.Signal{}, DrainDelay: -1,
				}
				ctx, leave := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Serve(ctx, grpc.NewServer(), bufconn.Listen(1)) }()
				synctest.Wait()
				r := s.Registrations()[0]
				calls := 0
				d.update = func(context.Context) error { // the first one arrives after the second
					if calls++; calls == 1 {
						time.Sleep(time.Second)
					}
					return nil
				}
				update := func() {
					if err := r.Update(t.Context(), registry.Instance{Address: "10.0.0.1:80", Weight: 9}); err != nil {
						t.Error(err)
					}
				}
				if first == "update" {
					go update()
					synctest.Wait()
					s.NotReady()
				} else {
					s.NotReady()
					synctest.Wait()
					update()
				}
				time.Sleep(2 * time.Second)
				if set := lookup(t, store); len(set) != 1 || set[0].Weight != 9 || set[0].Status != registry.Critical {
					t.Errorf("in the end the registry has %+v", set)
				}
				leave()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestServer_ServesAfterApplicationDeregisters(t *testing.T) {
	store := newStore(t)
	d := &diary{Registrar: store}
	s := &grpcx.Server{Registrar: d, Instance: registry.Instance{Service: service}, DrainDelay: -1}
	r := startServer(t, s, newBackend(t))
	watchtest.Eventually(t, "its registration", func() bool { return len(s.Registrations()) == 1 })
	if err := s.Registrations()[0].Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	s.NotReady()
	s.Ready()
	if _, err := call(watchtest.Context(t), direct(t, r.address())); err != nil {
		t.Error(err)
	}
	r.leave()
	if err := r.ends(t); err != nil || len(lookup(t, store)) != 0 {
		t.Errorf("it returned %v and left %v", err, lookup(t, store))
	}
}

// deaf is a registrar that answers nothing until its context ends, and notes what it was asked for.
type deaf struct {
	asked chan registry.Status
	next  registry.Registrar // answers from the second call on
}

func (d *deaf) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	d.asked <- in.Status
	if len(d.asked) > 1 {
		return d.next.Register(ctx, in)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestServer_NotReadyAppliesToRegistrationInProgress(t *testing.T) {
	store := newStore(t)
	d := &deaf{asked: make(chan registry.Status, 10), next: store}
	s := &grpcx.Server{Registrar: d, Instance: registry.Instance{Service: service}, DrainDelay: -1}
	startServer(t, s, newBackend(t))
	watchtest.Eventually(t, "it to register", func() bool { return len(d.asked) == 1 })
	s.NotReady()
	registered(t, store)
	if first, second := <-d.asked, <-d.asked; first != registry.Passing || second != registry.Critical {
		t.Errorf("it was asked for %v, then for %v", first, second)
	}
}

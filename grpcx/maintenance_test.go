package grpcx_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// diary is a Registrar that records what a server does with its registrations, and when.
type diary struct {
	registry.Registrar
	began              time.Time
	update, deregister func(ctx context.Context) error // what the calls do before they reach the registrar; nil: nothing

	mu      sync.Mutex
	entries []string
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf("%v %s", time.Since(d.began), what))
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

func (d *diary) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	r, err := d.Registrar.Register(ctx, in)
	if err != nil {
		return nil, err
	}
	return page{r, d}, nil
}

// page is a registration of a diary.
type page struct {
	registry.Registration
	*diary
}

func (p page) Update(ctx context.Context, in registry.Instance) error {
	p.note(in.Service + " updated to " + in.Status.String())
	if p.update != nil {
		if err := p.update(ctx); err != nil {
			return err
		}
	}
	return p.Registration.Update(ctx, in)
}

func (p page) Deregister(ctx context.Context) error {
	p.note(p.Instance().Service + " deregistered")
	if p.deregister != nil {
		if err := p.deregister(ctx); err != nil {
			return err
		}
	}
	return p.Registration.Deregister(ctx)
}

// lifetime runs s with d until it has registered, and then ends it. It returns what d has recorded. It must be called in a bubble.
func lifetime(t *testing.T, d *diary, s *grpcx.Server) []string {
	t.Helper()
	store := memory.New()
	defer store.Close()
	d.Registrar, d.began = store, time.Now()
	s.Registrar, s.Signals = d, []os.Signal{}
	s.Instance = registry.Instance{Service: service, Address: "10.0.0.1:80"}
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, grpc.NewServer(), bufconn.Listen(1)) }()
	synctest.Wait()
	if n := len(lookup(t, store)); n != 1 {
		t.Fatalf("%d instances are registered", n)
	}
	leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
	d.note("stopped")
	return d.all()
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestServer_SetsMaintenanceBeforeDeregistering(t *testing.T) {
	const left = service + " updated to maintenance"
	unsupported := func(context.Context) error { return registry.ErrUnsupported }
	fails := func(context.Context) error { return registry.ErrUnavailable }
	for name, c := range map[string]struct {
		diary  *diary
		server *grpcx.Server
		want   []string
	}{
		"by default":          {want: []string{"0s " + left, "500ms backend deregistered", "1s stopped"}},
		"with a long drain":   {server: &grpcx.Server{DrainDelay: time.Minute}, want: []string{"0s " + left, "1s backend deregistered", "1m0s stopped"}},
		"without a drain":     {server: &grpcx.Server{DrainDelay: -time.Second}, want: []string{"0s " + left, "0s backend deregistered", "0s stopped"}},
		"no status to be had": {diary: &diary{update: unsupported}, want: []string{"0s " + left, "0s backend deregistered", "1s stopped"}},
		"an update that fails": {
			diary: &diary{update: fails}, want: []string{"0s " + left, "0s backend deregistered", "1s stopped"},
		},
		"an update that hangs": {
			diary: &diary{update: hang}, want: []string{"0s " + left, "1s backend deregistered", "2s stopped"},
		},
		"a deregistration that hangs": {
			diary: &diary{deregister: hang}, want: []string{"0s " + left, "500ms backend deregistered", "6s stopped"},
		},
		"all that hangs": {
			diary: &diary{update: hang, deregister: hang}, want: []string{"0s " + left, "1s backend deregistered", "6s stopped"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				if got := lifetime(t, cmp.Or(c.diary, new(diary)), cmp.Or(c.server, new(grpcx.Server))); !slices.Equal(got, c.want) {
					t.Errorf("it did %q, want %q", got, c.want)
				}
			})
		})
	}
}

// A registrar that ignores its context delays the end by DeregisterTimeout, DrainDelay and half a second at most.
func TestServer_LeavesInTimeIfRegistrarDoesNotReturn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		returns := make(chan struct{})
		d := &diary{update: func(context.Context) error { <-returns; return registry.ErrUnavailable }}
		got := lifetime(t, d, new(grpcx.Server))
		if want := []string{"0s backend updated to maintenance", "6.5s stopped"}; !slices.Equal(got, want) {
			t.Errorf("it did %q, want %q", got, want)
		}
		close(returns)
		synctest.Wait()
		if got := d.all(); got[len(got)-1] != "6.5s backend deregistered" {
			t.Errorf("when the registrar has returned, it did %q", got)
		}
	})
}

// slowAnswer is a registrar whose answer takes a while, and is lost if the context ends meanwhile.
type slowAnswer struct{ *memory.Registry }

func (s slowAnswer) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	r, err := s.Registry.Register(ctx, in)
	select {
	case <-time.After(100 * time.Millisecond):
		return r, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestServer_DeregistersRegistrationMadeWhileLeaving(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		s := grpcx.Server{
			Registrar: slowAnswer{store}, Instance: registry.Instance{Service: service, Address: "10.0.0.1:80"}, Signals: []os.Signal{},
		}
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, grpc.NewServer(), bufconn.Listen(1)) }()
		synctest.Wait()
		if n := len(lookup(t, store)); n != 1 {
			t.Fatalf("%d instances are registered", n)
		}
		leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if set := lookup(t, store); len(set) != 0 {
			t.Errorf("it left %v", set)
		}
	})
}

package memory_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// In real time, but for the pace and the TTL.
func TestConformance(t *testing.T) {
	t.Parallel()
	store, err := memory.NewWith(memory.Config{TTL: 2 * time.Second, Options: registry.Options{
		Logger: slog.New(slog.DiscardHandler), Spacing: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Run(t, conformance(store))
}

// In no time, at the default pace.
func TestConformance_InABubble(t *testing.T) {
	t.Parallel()
	store, err := memory.NewWith(memory.Config{Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	c := conformance(store)
	c.Around = bubble.Test
	registrytest.Run(t, c)
}

// A decorator that changes nothing takes nothing away.
func TestConformance_OfADecorator(t *testing.T) {
	t.Parallel()
	store, err := memory.NewWith(memory.Config{Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	c := conformance(store)
	driver := c.NewDriver
	c.NewDriver = func(t *testing.T) registry.Driver { return decorator{driver(t)} }
	c.New = func(t *testing.T) *registry.Registry {
		return watchtest.NewRegistry(t, c.NewDriver(t), registry.Options{})
	}
	c.KeepOnClose = func(t *testing.T) *registry.Registry {
		return watchtest.NewRegistry(t, c.NewDriver(t), registry.Options{KeepOnClose: true})
	}
	c.Around = bubble.Test
	registrytest.Run(t, c)
}

type (
	decorator       struct{ registry.Driver }
	decoratedLease  struct{ registry.Lease }
	decoratedSource struct{ registry.Source }
)

func (d decorator) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if decorated, ok := prev.(decoratedLease); ok {
		prev = decorated.Lease
	}
	l, err := d.Driver.Register(ctx, in, prev)
	if l == nil {
		return nil, err
	}
	return decoratedLease{l}, err
}

func (d decorator) Watch(q registry.Query) registry.Source { return decoratedSource{d.Driver.Watch(q)} }

// unanswering is a decorator that loses answers: a store in this process always answers.
type unanswering struct {
	registry.Driver
	on *atomic.Bool
}

type unansweringLease struct {
	registry.Lease
	d unanswering
}

func (d unanswering) answer() error {
	if d.on.Load() {
		return fmt.Errorf("%w: the answer is lost", registry.ErrUnavailable)
	}
	return nil
}

func (d unanswering) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if decorated, ok := prev.(unansweringLease); ok {
		prev = decorated.Lease
	}
	l, err := d.Driver.Register(ctx, in, prev)
	if l == nil {
		return nil, err
	}
	return unansweringLease{l, d}, cmp.Or(err, d.answer())
}

func (l unansweringLease) Update(ctx context.Context, in *registry.Instance) error {
	return cmp.Or(l.Lease.Update(ctx, in), l.d.answer())
}

func conformance(store *memory.Registry) registrytest.Config {
	unanswered := new(atomic.Bool)
	clients := map[*memory.Registry]bool{}
	client := func(t *testing.T) *memory.Registry {
		c := store.Client()
		clients[c] = true
		t.Cleanup(func() { delete(clients, c) }) // a client made in a bubble is of no use outside
		return c
	}
	return registrytest.Config{
		Values:    true,
		New:       func(t *testing.T) *registry.Registry { return client(t).Registry },
		NewDriver: func(t *testing.T) registry.Driver { return unanswering{client(t).Driver(), unanswered} },
		KeepOnClose: func(t *testing.T) *registry.Registry {
			return watchtest.NewRegistry(t, client(t).Driver(), registry.Options{KeepOnClose: true})
		},
		Lose: func(t *testing.T, in registry.Instance) {
			if !store.Expire(in.Service, in.ID) {
				t.Errorf("there is no %s/%s to lose", in.Service, in.ID)
			}
		},
		Break: func(t *testing.T) func() {
			for c := range clients {
				c.Fail(errors.New("the cable is cut"))
			}
			return func() {
				for c := range clients {
					c.Heal()
				}
			}
		},
		RefuseWrites: func(t *testing.T) func() {
			for c := range clients {
				c.RefuseWrites(errors.New("no space"))
			}
			return func() {
				for c := range clients {
					c.Heal()
				}
			}
		},
		LoseAnswers: func(t *testing.T) func() {
			unanswered.Store(true)
			return func() { unanswered.Store(false) }
		},
		WriteUnreadable: func(t *testing.T, _, _ string) func() {
			t.Skip("the store has nothing but instances")
			return nil
		},
		Calls: func(t *testing.T) (n int) {
			for c := range clients {
				n += c.Calls()
			}
			return n
		},
		Complete:    true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	}
}

package serve

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// counted counts the attempts.
type counted struct {
	registry.Registrar
	attempts atomic.Int64
}

func (c *counted) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	c.attempts.Add(1)
	return c.Registrar.Register(ctx, in)
}

func TestService_RetriesDeniedRegistration(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		r := &counted{Registrar: store}
		run := &serviceRun{
			Service:    Service{Registrar: r, DeregisterTimeout: time.Second, DrainDelay: -1},
			baseLogger: slog.New(slog.DiscardHandler),
			instances:  []registry.Instance{{Service: "backend", Address: "10.0.0.1:80"}}, registered: make([]*registration, 1),
			accepting: make(chan struct{}),
		}
		close(run.accepting)
		run.sharedState()
		store.Fail(registry.ErrDenied)
		tasks := run.register(t.Context())
		time.Sleep(10*retryPause + time.Millisecond)
		if n := r.attempts.Load(); n != 11 {
			t.Errorf("%d attempts in %v, want one each %v", n, 10*retryPause, retryPause)
		}
		store.Heal()
		time.Sleep(retryPause)
		q := registry.Query{Service: "backend"}
		if set, err := store.Lookup(t.Context(), q); err != nil || len(set) != 1 {
			t.Errorf("when it is allowed: %v, %v", set, err)
		}
		if _, graceful := run.deregisterAll(tasks, nil); !graceful {
			t.Error("it says that a signal came")
		}
		if set, err := store.Lookup(t.Context(), q); err != nil || len(set) != 0 {
			t.Errorf("after the end: %v, %v", set, err)
		}
	})
}

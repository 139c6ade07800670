package grpcx

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func TestADeniedAnnouncementIsTriedAgainUntilItStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		r := &counted{Registrar: store}
		l := &life{
			Server:    Server{Registrar: r, DeregisterTimeout: time.Second},
			plain:     slog.New(slog.DiscardHandler),
			instances: []registry.Instance{{Service: "backend", Address: "10.0.0.1:80"}},
		}
		l.control()
		store.Fail(registry.ErrDenied)
		a := l.announce(t.Context())
		time.Sleep(10*deniedPause + time.Millisecond)
		if n := r.attempts.Load(); n != 11 {
			t.Errorf("%d attempts in %v, want one each %v", n, 10*deniedPause, deniedPause)
		}
		store.Heal()
		time.Sleep(deniedPause)
		q := registry.Query{Service: "backend"}
		if set, err := store.Lookup(t.Context(), q); err != nil || len(set) != 1 {
			t.Errorf("when it is allowed: %v, %v", set, err)
		}
		if !l.withdraw(a, nil) {
			t.Error("it says that a signal came")
		}
		if set, err := store.Lookup(t.Context(), q); err != nil || len(set) != 0 {
			t.Errorf("after the end: %v, %v", set, err)
		}
	})
}

package memory_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// In real time, but for the pace.
func TestConformance(t *testing.T) {
	store, err := memory.NewWith(memory.Config{Options: registry.Options{
		Logger: slog.New(slog.DiscardHandler), Spacing: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Run(t, conformance(store))
}

// In no time, at the default pace.
func TestConformanceInABubble(t *testing.T) {
	store, err := memory.NewWith(memory.Config{Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	c := conformance(store)
	c.Around = synctest.Test
	registrytest.Run(t, c)
}

func conformance(store *memory.Registry) registrytest.Config {
	clients := map[*memory.Registry]bool{}
	return registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			c := store.Client()
			clients[c] = true
			t.Cleanup(func() { delete(clients, c) }) // a client made in a bubble is of no use outside
			return c.Registry
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
		Calls: func(t *testing.T) (n int) {
			for c := range clients {
				n += c.Calls()
			}
			return n
		},
		Complete: true,
	}
}

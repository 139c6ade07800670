package watchtest

import (
	"log/slog"
	"testing"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// NewMemory returns a client of a new store in memory. The test ends all faults of the client and closes it, and fails if Close fails.
// Without a Logger the client logs nothing.
func NewMemory(t testing.TB, o registry.Options) *memory.Registry {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := memory.NewWith(memory.Config{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	closeWithTest(t, r)
	return r
}

// NewMemoryClient returns another client of r's store, which ends as the client of [NewMemory] does.
func NewMemoryClient(t testing.TB, r *memory.Registry) *memory.Registry {
	c := r.Client()
	closeWithTest(t, c)
	return c
}

func closeWithTest(t testing.TB, r *memory.Registry) {
	t.Cleanup(func() {
		r.Heal() // so that it can deregister
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

package memory_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = registry.Query{Service: "web", AnyStatus: true}

func instance(id string) registry.Instance {
	return registry.Instance{ID: id, Service: "web", Address: "10.0.0.1:80", Weight: 1}
}

// newStore returns a quiet client of a new store, which is closed with the test.
func newStore(t *testing.T) *memory.Registry {
	t.Helper()
	r, err := memory.NewWith(memory.Config{Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	closed(t, r.Registry)
	return r
}

func newClient(t *testing.T, r *memory.Registry) *memory.Registry {
	t.Helper()
	c := r.Client()
	closed(t, c.Registry)
	return c
}

func closed(t *testing.T, r *registry.Registry) {
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func register(t *testing.T, r registry.Registrar, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// status returns that of web/a as d finds it, and what else Lookup says.
func status(d registry.Discovery) (registry.Status, bool, error) {
	set, err := d.Lookup(context.Background(), web)
	for _, in := range set {
		if in.ID == "a" {
			return in.Status, true, err
		}
	}
	return 0, false, err
}

func wantThere(t *testing.T, d registry.Discovery, want bool) {
	t.Helper()
	if _, there, err := status(d); err != nil || there != want {
		t.Errorf("%v: a is there: %v, want %v (error: %v)", time.Now().Format("15:04:05"), there, want, err)
	}
}

package registrytest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// trial is one case being run. What it makes, it takes away when the case ends.
type trial struct {
	*testing.T
	*suite
	promise promise
	stirred int
	stirrer registry.Registration
}

// name returns a service name that nobody else uses.
func (t *trial) name() string {
	return fmt.Sprintf("conformance-%s-%d", t.suffix, t.trials)
}

// instance returns the least that can be registered.
func (t *trial) instance(id string) registry.Instance {
	return registry.Instance{ID: id, Service: t.name(), Address: "10.0.0.1:8080", Weight: 1}
}

// all selects every instance of the case's service.
func (t *trial) all() registry.Query {
	return registry.Query{Service: t.name(), AnyStatus: true}
}

// patience returns a context for a call that must succeed.
func (t *trial) patience() context.Context { return t.within(t.Patience) }

// moment returns a context for a call that cannot succeed.
func (t *trial) moment() context.Context { return t.within(time.Second) }

func (t *trial) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// client returns a new client, which is closed at the end.
func (t *trial) client() *registry.Registry {
	t.Helper()
	r := t.New(t.T)
	if r == nil {
		t.Fatal("Config.New returned nil")
	}
	t.Cleanup(func() { t.close(r) })
	return r
}

// close closes r, and gives up on the whole Run where that hangs.
func (t *trial) close(r *registry.Registry) {
	t.Helper()
	if t.stuck != "" {
		return
	}
	if !t.ends("Close", func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}) {
		t.stuck = t.promise.name
	}
}

// ends runs f, and reports whether it returned in time.
func (t *trial) ends(what string, f func()) bool {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return t.closes(what, done)
}

// closes reports whether done was closed in time.
func (t *trial) closes(what string, done <-chan struct{}) bool {
	t.Helper()
	timer := time.NewTimer(t.Patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		t.Errorf("%s did not return within %v", what, t.Patience)
		return false
	}
}

// eventually waits for a condition that nothing announces.
func (t *trial) eventually(what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(t.Patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and still not: %s", t.Patience, what)
		}
	}
}

// register announces in, which is deregistered at the end.
func (t *trial) register(r registry.Registrar, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(t.patience(), in)
	if err != nil {
		t.Fatalf("Register(%s/%s): %v", in.Service, in.ID, err)
	}
	t.Cleanup(func() {
		if t.stuck != "" {
			return
		}
		if err := g.Deregister(t.patience()); err != nil && !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Deregister(%s/%s): %v", in.Service, in.ID, err)
		}
	})
	return g
}

func (t *trial) update(g registry.Registration, in registry.Instance) {
	t.Helper()
	if err := g.Update(t.patience(), in); err != nil {
		t.Fatalf("Update(%s/%s): %v", in.Service, in.ID, err)
	}
}

func (t *trial) deregister(g registry.Registration) {
	t.Helper()
	if err := g.Deregister(t.patience()); err != nil {
		in := g.Instance()
		t.Fatalf("Deregister(%s/%s): %v", in.Service, in.ID, err)
	}
}

// sweep takes away what a closed client has left of the case's service, which would otherwise stay until it expires: it
// registers each instance anew, and that it can deregister.
func (t *trial) sweep(r *registry.Registry) {
	t.Helper()
	set, err := r.Lookup(t.patience(), t.all())
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	for _, in := range set {
		t.deregister(t.register(r, *in))
	}
}

// lookup returns what q selects, to a client that does not watch it.
func (t *trial) lookup(q registry.Query) []*registry.Instance {
	t.Helper()
	set, err := t.client().Lookup(t.patience(), q)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	if set == nil {
		t.Error("Lookup returned a nil set without an error; none is an empty slice")
	}
	return set
}

// outage breaks every client. The function that it returns heals them; the end of the case does so too.
func (t *trial) outage() func() {
	t.Helper()
	heal := t.Break(t.T)
	if heal == nil {
		t.Fatal("Config.Break returned nil")
	}
	broken := true
	once := func() {
		if broken {
			broken = false
			heal()
		}
	}
	t.Cleanup(once)
	return once
}

// wantError fails unless err is all of kinds and an *Error for op on the case's service.
func (t *trial) wantError(err error, op string, kinds ...error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: there is no error, want %v", op, kinds)
		return
	}
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Errorf("%s: the error is %q, which does not wrap %q", op, err, kind)
		}
	}
	var e *registry.Error
	switch {
	case !errors.As(err, &e):
		t.Errorf("%s: the error is %q, which wraps no *registry.Error", op, err)
	case e.Op != op:
		t.Errorf("the error is %q: its Op is %q, want %q", err, e.Op, op)
	}
}

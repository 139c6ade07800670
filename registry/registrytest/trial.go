package registrytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// trial is one run of a case. It removes what it made when the case ends.
type trial struct {
	*testing.T
	*suite
	promise promise
	stirred int
	stirrer registry.Registration

	written map[string]*written // by service/ID, if Config.Write is set

	mu         sync.Mutex
	registered map[registry.Registrar][]registry.Registration // by register
}

// name returns a service name that no other case uses.
func (t *trial) name() string {
	return fmt.Sprintf("conformance-%s-%d", t.suffix, t.trials)
}

// instance returns an instance with the required fields only.
func (t *trial) instance(id string) registry.Instance {
	return registry.Instance{ID: id, Service: t.name(), Address: "10.0.0.1:8080", Weight: 1}
}

// all selects every instance of the case's service.
func (t *trial) all() registry.Query {
	return registry.Query{Service: t.name(), AnyStatus: true}
}

// inTime returns a context for a call that must succeed.
func (t *trial) inTime() context.Context { return t.within(t.Patience) }

// moment returns a context for a call that cannot succeed. It leaves time for an attempt that fails, also on a busy machine.
func (t *trial) moment() context.Context { return t.within(3 * time.Second) }

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

// keeper returns a new client whose entries Close leaves, which is closed at the end.
func (t *trial) keeper() *registry.Registry {
	t.Helper()
	r := t.KeepOnClose(t.T)
	if r == nil {
		t.Fatal("Config.KeepOnClose returned nil")
	}
	t.Cleanup(func() { t.close(r) })
	return r
}

// close closes r, and gives up on the whole Run if that hangs.
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

// eventually waits for a condition.
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

// register registers in, which is deregistered at the end. If the backend can only find, it writes in to the store.
func (t *trial) register(r registry.Registrar, in registry.Instance) registry.Registration {
	t.Helper()
	if t.Write != nil {
		return t.write(in)
	}
	g, err := t.tryRegister(r, in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// registerAll registers instances as register does, some at the same time, since a store may be slow.
func (t *trial) registerAll(r registry.Registrar, all []registry.Instance) []registry.Registration {
	t.Helper()
	registrations := make([]registry.Registration, len(all))
	if t.Write != nil {
		for i, in := range all {
			registrations[i] = t.write(in)
		}
		return registrations
	}
	var work sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, in := range all {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			var err error
			if registrations[i], err = t.tryRegister(r, in); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return registrations
}

// tryRegister registers in, which is deregistered at the end.
func (t *trial) tryRegister(r registry.Registrar, in registry.Instance) (registry.Registration, error) {
	g, err := r.Register(t.inTime(), in)
	if err != nil {
		return nil, fmt.Errorf("Register(%s/%s): %w", in.Service, in.ID, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.registered == nil {
		t.registered = map[registry.Registrar][]registry.Registration{}
	}
	if t.registered[r] == nil {
		t.Cleanup(func() { t.deregisterAll(r) }) // while r is open
	}
	t.registered[r] = append(t.registered[r], g)
	return g, nil
}

// deregisterAll deregisters all instances that were registered with r, at the same time, since a store may be slow.
func (t *trial) deregisterAll(r registry.Registrar) {
	if t.stuck != "" {
		return
	}
	var work sync.WaitGroup
	for _, g := range t.registered[r] {
		work.Go(func() {
			in := g.Instance()
			if err := g.Deregister(t.inTime()); err != nil && !errors.Is(err, registry.ErrClosed) {
				t.Errorf("Deregister(%s/%s): %v", in.Service, in.ID, err)
			}
		})
	}
	work.Wait()
}

func (t *trial) update(g registry.Registration, in registry.Instance) {
	t.Helper()
	if err := g.Update(t.inTime(), in); err != nil {
		t.Fatalf("Update(%s/%s): %v", in.Service, in.ID, err)
	}
}

func (t *trial) deregister(g registry.Registration) {
	t.Helper()
	if err := g.Deregister(t.inTime()); err != nil {
		in := g.Instance()
		t.Fatalf("Deregister(%s/%s): %v", in.Service, in.ID, err)
	}
}

// sweep removes what a closed client has left of the case's service, which would stay until it expires. It registers each instance
// again, and deregisters it.
func (t *trial) sweep(r *registry.Registry) {
	t.Helper()
	set, err := r.Lookup(t.inTime(), t.all())
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
	set, err := t.client().Lookup(t.inTime(), q)
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
	return t.once(t.Break(t.T))
}

// once returns a function that ends a fault. The end of the case does so too.
func (t *trial) once(heal func()) func() {
	t.Helper()
	if heal == nil {
		t.Fatal("a hook of Config returned nil")
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

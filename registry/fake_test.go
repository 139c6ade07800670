package registry_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// fake is a driver whose every answer the test decides. It notes when it was asked.
type fake struct {
	mu       sync.Mutex
	entries  map[string]map[string]*registry.Instance // service, ID
	owners   map[string]*fakeLease                    // service/ID
	changed  chan struct{}
	revision int
	err      error         // every call answers it at once
	gate     chan struct{} // every call waits until it is closed, if it is not nil
	closed   int

	registers, updates, releases, nexts []time.Time
	watched, sourcesClosed              int
}

func newFake() *fake {
	return &fake{entries: map[string]map[string]*registry.Instance{}, owners: map[string]*fakeLease{}, changed: make(chan struct{})}
}

// newRegistry returns a quiet Registry over d, which is closed with the test.
func newRegistry(t *testing.T, d registry.Driver, o registry.Options) *registry.Registry {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	r, err := registry.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func (d *fake) put(ins ...registry.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, in := range ins {
		d.write(&in)
	}
}

func (d *fake) write(in *registry.Instance) {
	if d.entries[in.Service] == nil {
		d.entries[in.Service] = map[string]*registry.Instance{}
	}
	d.entries[in.Service][in.ID] = in
	d.wake()
}

// wake lets every Next return, and every Wait look again.
func (d *fake) wake() {
	d.revision++
	close(d.changed)
	d.changed = make(chan struct{})
}

// lose removes the entry as if its lease had expired.
func (d *fake) lose(service, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.entries[service], id)
	delete(d.owners, service+"/"+id)
	d.wake()
}

// fail makes every call answer err, and nil makes them work again.
func (d *fake) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	d.wake()
}

// shut makes every call wait until the function that it returns is called.
func (d *fake) shut() (open func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.gate = gate
	return func() {
		d.mu.Lock()
		d.gate = nil
		d.mu.Unlock()
		close(gate)
	}
}

func (d *fake) has(service, id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries[service][id] != nil
}

func (d *fake) count(of *[]time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(*of)
}

// enter notes a call and waits for the gate.
func (d *fake) enter(ctx context.Context, calls *[]time.Time) error {
	d.mu.Lock()
	*calls = append(*calls, time.Now())
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *fake) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if err := d.enter(ctx, &d.registers); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &fakeLease{d: d, in: in}
	d.owners[in.Service+"/"+in.ID] = l
	d.write(in)
	return l, nil
}

func (d *fake) WatchValue(string) registry.ValueSource { return registry.NoValues() }

func (d *fake) Services(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []string{"b", "a", "b"}, d.err
}

func (d *fake) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *fake) Properties() registry.Properties { return registry.Properties{Name: "fake"} }

func (d *fake) Watch(q registry.Query) registry.Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched++
	return &fakeSource{d: d, q: q, seen: -1}
}

type fakeLease struct {
	d  *fake
	in *registry.Instance
}

func (l *fakeLease) key() string { return l.in.Service + "/" + l.in.ID }

func (l *fakeLease) TTL() time.Duration { return 0 }

func (l *fakeLease) Renew(context.Context) error { return nil }

func (l *fakeLease) CheckReplaced(context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if owner := l.d.owners[l.key()]; owner != nil && owner != l {
		return registry.ErrReplaced
	}
	return l.d.err
}

func (l *fakeLease) Wait(ctx context.Context) error {
	for {
		l.d.mu.Lock()
		owner, err, changed := l.d.owners[l.key()], l.d.err, l.d.changed
		l.d.mu.Unlock()
		switch {
		case err != nil:
			return err
		case owner == nil:
			return registry.ErrUnavailable
		case owner != l:
			return registry.ErrReplaced
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (l *fakeLease) Update(ctx context.Context, in *registry.Instance) error {
	if err := l.d.enter(ctx, &l.d.updates); err != nil {
		return err
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if owner := l.d.owners[l.key()]; owner != nil && owner != l {
		return registry.ErrReplaced
	}
	l.d.write(in)
	return nil
}

func (l *fakeLease) Release(ctx context.Context) error {
	if err := l.d.enter(ctx, &l.d.releases); err != nil {
		return err
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.owners[l.key()] == l {
		delete(l.d.owners, l.key())
		delete(l.d.entries[l.in.Service], l.in.ID)
		l.d.wake()
	}
	return nil
}

type fakeSource struct {
	d    *fake
	q    registry.Query
	seen int
}

func (s *fakeSource) Next(ctx context.Context) (registry.Set, error) {
	if err := s.d.enter(ctx, &s.d.nexts); err != nil {
		s.seen = -1
		return registry.Set{}, err
	}
	for {
		s.d.mu.Lock()
		err, revision, changed := s.d.err, s.d.revision, s.d.changed
		set := slices.Collect(maps.Values(s.d.entries[s.q.Service]))
		s.d.mu.Unlock()
		switch {
		case err != nil:
			s.seen = -1
			return registry.Set{}, err
		case revision != s.seen:
			s.seen = revision
			return registry.Set{Instances: set}, nil
		}
		select {
		case <-ctx.Done():
			return registry.Set{}, ctx.Err()
		case <-changed:
		}
	}
}

func (s *fakeSource) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.sourcesClosed++
	return nil
}

func instance(id string) registry.Instance {
	return registry.Instance{ID: id, Service: "web", Address: "10.0.0.1:80", Weight: 1}
}

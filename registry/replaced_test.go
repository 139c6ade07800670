package registry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestANewerRegistrationOfAnIDWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		older := register(t, r, instance("a"))
		second := instance("a")
		second.Version = "2"
		newer := register(t, r, second)
		time.Sleep(time.Hour)
		if err := older.Err(); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("the older one's Err says %v", err)
		}
		if err := newer.Err(); err != nil {
			t.Errorf("the newer one's Err says %v", err)
		}
		if n := d.count(&d.announces); n != 2 {
			t.Errorf("%d announcements, want 2: the two must not fight over the ID", n)
		}
		if err := older.Update(t.Context(), instance("a")); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("an update of the older one says %v", err)
		}
		if got := w.last(t).set; len(got) != 1 || got[0].Version != "2" {
			t.Errorf("the set is %v", got)
		}
		comesBack(t, d, older, newer)
		if err := older.Deregister(t.Context()); err != nil || d.has("web", "a") {
			t.Errorf("deregistering it: %v", err)
		}
	})
}

// comesBack has the newer one of an ID go, which the older one follows.
func comesBack(t *testing.T, d *fake, older, newer registry.Registration) {
	t.Helper()
	if err := newer.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * registry.DefaultBackoffMax)
	synctest.Wait()
	if err := older.Err(); err != nil || !d.has("web", "a") {
		t.Errorf("the older one does not come back when the newer one has gone: %v", err)
	}
}

func TestDeregisteringTheOlderOfTwoLeavesTheNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		older := register(t, r, instance("a"))
		newer := register(t, r, instance("a"))
		if err := older.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !d.has("web", "a") || newer.Err() != nil {
			t.Error("the newer one is gone")
		}
	})
}

// An Update may be told before Keep is.
func TestAnUpdateOfWhatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, unaware{d}, registry.Options{})
		older := register(t, r, instance("a"))
		newer := register(t, r, instance("a"))
		synctest.Wait() // both are held
		if err := older.Update(t.Context(), instance("a")); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("an update of the older one says %v", err)
		}
		time.Sleep(time.Hour)
		if !errors.Is(older.Err(), registry.ErrReplaced) || newer.Err() != nil || d.count(&d.announces) != 2 {
			t.Errorf("after %d announcements the older one says %v, the newer one %v", d.count(&d.announces), older.Err(), newer.Err())
		}
	})
}

// unaware has leases that do not notice when they are replaced.
type unaware struct{ *fake }

type unawareLease struct{ registry.Lease }

func (d unaware) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	l, err := d.fake.Announce(ctx, in)
	return unawareLease{l}, err
}

func (unawareLease) Keep(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAStoreThatLagsDoesNotMakeAnIDLookFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, lagging{d}, registry.Options{})
		older := register(t, r, instance("a"))
		newer := register(t, r, instance("a"))
		time.Sleep(time.Hour)
		if !errors.Is(older.Err(), registry.ErrReplaced) || newer.Err() != nil || d.count(&d.announces) != 2 {
			t.Errorf("after %d announcements the older one says %v, the newer one %v", d.count(&d.announces), older.Err(), newer.Err())
		}
	})
}

// lagging tells of nothing at first, and of everything late.
type lagging struct{ *fake }

type laggingSource struct {
	registry.Source
	reads int
}

func (d lagging) Follow(q registry.Query) registry.Source {
	return &laggingSource{Source: d.fake.Follow(q)}
}

func (s *laggingSource) Next(ctx context.Context) ([]*registry.Instance, error) {
	if s.reads++; s.reads == 1 {
		return nil, nil
	}
	time.Sleep(time.Second)
	return s.Source.Next(ctx)
}

// TestWhatWasReplacedWhileTheStoreWasAwayStandsAside has the older one find the store again when the newer one is there.
func TestWhatWasReplacedWhileTheStoreWasAwayStandsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		cut := &cutOff{fake: d}
		older := register(t, newRegistry(t, cut, registry.Options{}), instance("a"))
		cut.away.Store(true)
		d.lose("web", "a")
		time.Sleep(time.Minute)
		newer := register(t, newRegistry(t, d, registry.Options{}), instance("a"))
		cut.away.Store(false)
		time.Sleep(time.Hour)
		if !errors.Is(older.Err(), registry.ErrReplaced) || newer.Err() != nil || d.count(&d.announces) != 2 {
			t.Errorf("after %d announcements the older one says %v, the newer one %v", d.count(&d.announces), older.Err(), newer.Err())
		}
		comesBack(t, d, older, newer)
	})
}

// cutOff reaches the store now and then.
type cutOff struct {
	*fake
	away atomic.Bool
}

type cutOffLease struct {
	*fakeLease
	store *cutOff
}

func (d *cutOff) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	if d.away.Load() {
		return nil, registry.ErrUnavailable
	}
	l, err := d.fake.Announce(ctx, in)
	if err != nil {
		return nil, err
	}
	return cutOffLease{l.(*fakeLease), d}, nil
}

func (l cutOffLease) CheckReplaced(context.Context) error {
	if l.store.away.Load() {
		return registry.ErrUnavailable
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if owner := l.d.owners[l.key()]; owner != nil && owner != l.fakeLease {
		return registry.ErrReplaced
	}
	return nil
}

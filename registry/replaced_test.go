package registry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_ANewerRegistrationOfAnIDWins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		older := watchtest.Register(t, r, instance("a"))
		second := instance("a")
		second.Version = "2"
		newer := watchtest.Register(t, r, second)
		time.Sleep(time.Hour)
		if err := older.Err(); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("the older one's Err says %v", err)
		}
		if err := newer.Err(); err != nil {
			t.Errorf("the newer one's Err says %v", err)
		}
		if n := d.count(&d.registers); n != 2 {
			t.Errorf("registered %d times, want 2: the two must not fight over the ID", n)
		}
		if err := older.Update(t.Context(), instance("a")); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("an update of the older one says %v", err)
		}
		if got := w.Last().Set; len(got) != 1 || got[0].Version != "2" {
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

func TestDeregister_OfTheOlderOfTwoLeavesTheNewer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		older := watchtest.Register(t, r, instance("a"))
		newer := watchtest.Register(t, r, instance("a"))
		if err := older.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !d.has("web", "a") || newer.Err() != nil {
			t.Error("the newer one is gone")
		}
	})
}

// An Update may be told before Wait is.
func TestUpdate_FindsThatTheRegistrationWasReplaced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, unaware{d}, registry.Options{})
		older := watchtest.Register(t, r, instance("a"))
		newer := watchtest.Register(t, r, instance("a"))
		synctest.Wait() // Wait runs for both
		if err := older.Update(t.Context(), instance("a")); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("an update of the older one says %v", err)
		}
		time.Sleep(time.Hour)
		if !errors.Is(older.Err(), registry.ErrReplaced) || newer.Err() != nil || d.count(&d.registers) != 2 {
			t.Errorf("after %d calls of Register the older one says %v, the newer one %v", d.count(&d.registers), older.Err(), newer.Err())
		}
	})
}

// unaware has leases that do not notice when they are replaced.
type unaware struct{ *fake }

type unawareLease struct{ registry.Lease }

func (d unaware) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return unawareLease{l}, nil
}

func (unawareLease) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestRegistration_YieldsIfItWasReplacedDuringAnOutage has the older one find the store again when the newer one is there.
func TestRegistration_YieldsIfItWasReplacedDuringAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		cut := &cutOff{fake: d}
		older := watchtest.Register(t, newRegistry(t, cut, registry.Options{}), instance("a"))
		cut.away.Store(true)
		d.lose("web", "a")
		time.Sleep(time.Minute)
		newer := watchtest.Register(t, newRegistry(t, d, registry.Options{}), instance("a"))
		cut.away.Store(false)
		time.Sleep(time.Hour)
		if !errors.Is(older.Err(), registry.ErrReplaced) || newer.Err() != nil || d.count(&d.registers) != 2 {
			t.Errorf("after %d calls of Register the older one says %v, the newer one %v", d.count(&d.registers), older.Err(), newer.Err())
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

func (d *cutOff) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if d.away.Load() {
		return nil, registry.ErrUnavailable
	}
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return cutOffLease{l.(*fakeLease), d}, nil
}

func (l cutOffLease) CheckReplaced(ctx context.Context) error {
	if l.store.away.Load() {
		return registry.ErrUnavailable
	}
	return l.fakeLease.CheckReplaced(ctx)
}

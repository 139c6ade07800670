package registry_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// afterALookup runs a test with a service of three instances at the time of the first Lookup, whose watch pauses.
func afterALookup(t *testing.T, test func(t *testing.T, d *fake, r *registry.Registry)) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"), instance("c"))
		r := newRegistry(t, d, registry.Options{})
		watchtest.WantIDs(t, lookup(t, r, web), "a", "b", "c")
		time.Sleep(registry.LookupPause / 4)
		test(t, d, r)
	})
}

// deregister takes instances out of the set as package consul does: they are in Maintenance for a moment.
func (d *fake) deregister(ids ...string) {
	for _, id := range ids {
		in := instance(id)
		in.Status = registry.Maintenance
		d.put(in)
	}
	time.Sleep(100 * time.Millisecond)
	d.crash(ids...)
}

func TestLookup_ShowsDeparturesInItsPauseAtOnce(t *testing.T) {
	t.Run("all go", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			d.deregister("a", "b", "c")
			time.Sleep(registry.LookupPause)
			watchtest.WantIDs(t, lookup(t, r, web))
		})
	})
	t.Run("most go, and the next Lookup ends the pause", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			d.deregister("b", "c")
			lookup(t, r, web)
			synctest.Wait()
			watchtest.WantIDs(t, lookup(t, r, web), "a")
			d.deregister("a") // the sets before the pause are not compared with this one either
			watchtest.WantIDs(t, lookup(t, r, web))
		})
	})
	t.Run("most go, and a write makes Lookup read before the pause ends", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			d.deregister("a", "b", "c")
			watchtest.Register(t, r, instance("d"))
			watchtest.WantIDs(t, lookup(t, r, web), "d")
		})
	})
	t.Run("they go while the read after the pause is under way", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			open := d.shut()
			d.deregister("b", "c")
			time.Sleep(registry.LookupPause)
			open()
			synctest.Wait()
			watchtest.WantIDs(t, lookup(t, r, web), "a")
		})
	})
}

func TestLookup_WithholdsASetThatShrinksAfterItsPause(t *testing.T) {
	wantWithheld := func(t *testing.T, r *registry.Registry) {
		t.Helper()
		synctest.Wait()
		set, err := r.Lookup(t.Context(), web)
		watchtest.WantIDs(t, set, "a", "b", "c")
		if stale := wantStale(t, err, registry.FromRegistry); len(stale.Withheld) == 0 {
			t.Errorf("the error is %v, want one about a suspect set", err)
		}
	}
	t.Run("nothing changed in it", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			time.Sleep(2 * registry.LookupPause)
			d.crash("a", "b", "c")
			wantWithheld(t, r)
		})
	})
	t.Run("the set changed in it", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			in := instance("a")
			in.Version = "2"
			d.put(in)
			time.Sleep(registry.LookupPause)
			d.crash("b", "c")
			wantWithheld(t, r)
		})
	})
	t.Run("the registry failed after it", func(t *testing.T) {
		afterALookup(t, func(t *testing.T, d *fake, r *registry.Registry) {
			d.fail(errors.New("down"))
			time.Sleep(registry.LookupPause)
			d.crash("a", "b", "c")
			d.fail(nil)
			time.Sleep(registry.DefaultBackoffMax)
			wantWithheld(t, r)
		})
	})
	t.Run("the registry failed before it", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"), instance("b"), instance("c"))
			d.fail(errors.New("down"))
			r := newRegistry(t, d, registry.Options{})
			if set, err := r.Lookup(t.Context(), web); err == nil {
				t.Errorf("in an outage Lookup returns %v", watchtest.IDs(set))
			}
			d.fail(nil)
			time.Sleep(registry.DefaultBackoffMax)
			d.crash("a", "b", "c")
			wantWithheld(t, r)
		})
	})
}

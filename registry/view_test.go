package registry_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

var webAny = registry.Query{Service: "web", AnyStatus: true}

func withStatus(id string, s registry.Status) registry.Instance {
	in := instance(id)
	in.Status = s
	return in
}

// One source serves the readers of any status and the readers of passing instances. A change that concerns only one kind of reader does
// not wake the other.
func TestWatch_SharesOneSourceForAnyStatusAndPassing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), withStatus("b", registry.Critical))
		r := newRegistry(t, d, registry.Options{})
		all, passing := watchtest.Watch(t, r, webAny), watchtest.Watch(t, r, web)
		synctest.Wait()
		watchtest.WantIDs(t, all.Last().Set, "a", "b")
		watchtest.WantIDs(t, passing.Last().Set, "a")

		d.put(withStatus("b", registry.Maintenance))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(passing.All()); n != 1 {
			t.Errorf("%d pairs for a watcher whose set did not change", n)
		}
		if got := all.Last().Set; got[1].Status != registry.Maintenance {
			t.Errorf("b is %v", got[1].Status)
		}

		d.put(instance("b"))
		time.Sleep(time.Second)
		synctest.Wait()
		watchtest.WantIDs(t, passing.Last().Set, "a", "b")
		for q, want := range map[bool]int{true: 2, false: 2} {
			if set, ok := r.Known(registry.Query{Service: "web", AnyStatus: q}); !ok || len(set) != want {
				t.Errorf("known with any status %v: %v, %v", q, watchtest.IDs(set), ok)
			}
		}
		d.mu.Lock()
		watched := d.watched
		d.mu.Unlock()
		if watched != 1 {
			t.Errorf("%d sources, want 1", watched)
		}
		d.put(withStatus("a", registry.Warning), withStatus("b", registry.Warning))
		time.Sleep(registry.DefaultBackoffMax + time.Second) // until the suspect set is published
		synctest.Wait()
		if got := passing.Last(); got.Err != nil || got.Set == nil || len(got.Set) != 0 {
			t.Errorf("if none passes: %v, %v", got.Set, got.Err)
		}
		if set, err := r.Lookup(t.Context(), web); err != nil || len(set) != 0 {
			t.Errorf("Lookup: %v, %v", watchtest.IDs(set), err)
		}
		if set, err := r.Lookup(t.Context(), webAny); err != nil || len(set) != 2 {
			t.Errorf("Lookup with any status: %v, %v", watchtest.IDs(set), err)
		}
	})
}

func TestKnown_OutlivesTheWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		if set, ok := r.Known(web); ok {
			t.Errorf("known: %v", watchtest.IDs(set))
		}
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		w.Stop()
		if set, ok := r.Known(web); !ok || len(set) != 1 {
			t.Errorf("of a watch that was left a moment ago: %v, %v", watchtest.IDs(set), ok)
		}
		time.Sleep(time.Hour)
		if set, ok := r.Known(web); !ok || len(set) != 1 {
			t.Errorf("an hour later: %v, %v", watchtest.IDs(set), ok)
		}
		if set, ok := r.Known(registry.Query{Service: "web", Version: "2"}); ok {
			t.Errorf("of another query: %v", watchtest.IDs(set))
		}
	})
}

// As after an outage that lasted longer than the TTL of everybody's check.
func TestWatch_WithholdsASetWithoutAPassingInstanceAfterAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		all, passing := watchtest.Watch(t, r, webAny), watchtest.Watch(t, r, web)
		synctest.Wait()
		d.fail(errors.New("down"))
		d.put(withStatus("a", registry.Critical), withStatus("b", registry.Critical))
		time.Sleep(time.Second)
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		for _, w := range []*watchtest.Watcher{all, passing} {
			got := w.Last()
			watchtest.WantIDs(t, got.Set, "a", "b")
			if got.Err == nil || !strings.Contains(got.Err.Error(), "shrank from 2 to 0 passing instances") {
				t.Errorf("the error is %v", got.Err)
			}
		}
		time.Sleep(registry.DefaultOutageGrace)
		synctest.Wait()
		if got := passing.Last(); got.Err != nil || len(got.Set) != 0 {
			t.Errorf("after the grace period: %v, %v", watchtest.IDs(got.Set), got.Err)
		}
		if got := all.Last(); got.Err != nil || len(got.Set) != 2 || got.Set[0].Status != registry.Critical {
			t.Errorf("after the grace period, of any status: %v, %v", watchtest.IDs(got.Set), got.Err)
		}
	})
}

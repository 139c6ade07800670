package registry_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

var webAny = registry.Query{Service: "web", AnyStatus: true}

func withStatus(id string, s registry.Status) registry.Instance {
	in := instance(id)
	in.Status = s
	return in
}

// Those who want any status and those who want what passes are served by one source, and neither hears of what only
// concerns the other.
func TestStatusIsTheReadersMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), withStatus("b", registry.Critical))
		r := newRegistry(t, d, registry.Options{})
		all, passing := watch(t, r, webAny), watch(t, r, web)
		synctest.Wait()
		wantIDs(t, all.last(t).set, "a", "b")
		wantIDs(t, passing.last(t).set, "a")

		d.put(withStatus("b", registry.Maintenance))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(passing.all()); n != 1 {
			t.Errorf("%d pairs for a watcher whose set did not change", n)
		}
		if got := all.last(t).set; got[1].Status != registry.Maintenance {
			t.Errorf("b is %v", got[1].Status)
		}

		d.put(instance("b"))
		time.Sleep(time.Second)
		synctest.Wait()
		wantIDs(t, passing.last(t).set, "a", "b")
		for q, want := range map[bool]int{true: 2, false: 2} {
			if set, ok := r.Known(registry.Query{Service: "web", AnyStatus: q}); !ok || len(set) != want {
				t.Errorf("known with any status %v: %v, %v", q, ids(set), ok)
			}
		}
		d.mu.Lock()
		followed := d.followed
		d.mu.Unlock()
		if followed != 1 {
			t.Errorf("%d sources, want 1", followed)
		}
		d.put(withStatus("a", registry.Warning), withStatus("b", registry.Warning))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := passing.last(t); got.err != nil || got.set == nil || len(got.set) != 0 {
			t.Errorf("where none passes: %v, %v", got.set, got.err)
		}
		if set, err := r.Lookup(t.Context(), web); err != nil || len(set) != 0 {
			t.Errorf("Lookup: %v, %v", ids(set), err)
		}
		if set, err := r.Lookup(t.Context(), webAny); err != nil || len(set) != 2 {
			t.Errorf("Lookup with any status: %v, %v", ids(set), err)
		}
	})
}

func TestNothingIsKnownOfWhatNobodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		if set, ok := r.Known(web); ok {
			t.Errorf("known: %v", ids(set))
		}
		w := watch(t, r, web)
		synctest.Wait()
		w.stop()
		if set, ok := r.Known(web); !ok || len(set) != 1 {
			t.Errorf("of a watch that was left a moment ago: %v, %v", ids(set), ok)
		}
		time.Sleep(registry.DefaultLinger + time.Second)
		if set, ok := r.Known(web); ok {
			t.Errorf("after a while: %v", ids(set))
		}
	})
}

// As after an outage that lasted longer than the TTL of everybody's check.
func TestThatNonePassesRightAfterAnOutageIsNotBelievedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		all, passing := watch(t, r, webAny), watch(t, r, web)
		synctest.Wait()
		d.fail(errors.New("down"))
		d.put(withStatus("a", registry.Critical), withStatus("b", registry.Critical))
		time.Sleep(time.Second)
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		for _, w := range []*watcher{all, passing} {
			got := w.last(t)
			wantIDs(t, got.set, "a", "b")
			if got.err == nil || !strings.Contains(got.err.Error(), "none of the 2 instances from before passes") {
				t.Errorf("the error is %v", got.err)
			}
		}
		time.Sleep(registry.DefaultEmptyHold)
		synctest.Wait()
		if got := passing.last(t); got.err != nil || len(got.set) != 0 {
			t.Errorf("after the hold: %v, %v", ids(got.set), got.err)
		}
		if got := all.last(t); got.err != nil || len(got.set) != 2 || got.set[0].Status != registry.Critical {
			t.Errorf("after the hold, of any status: %v, %v", ids(got.set), got.err)
		}
	})
}

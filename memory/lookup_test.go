package memory_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// In one process a Lookup sees every change that was completed before it, so that a test need not wait for a watch.
func TestLookup_SeesEveryCompletedChange(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Millisecond, time.Minute} {
		bubble.Test(t, func(t *testing.T) {
			r := watchtest.NewMemory(t, registry.Options{})
			other := watchtest.NewMemoryClient(t, r)
			find := func(want ...string) {
				t.Helper()
				time.Sleep(pause)
				set, err := r.Lookup(t.Context(), registry.Query{Service: "web"})
				if err != nil || len(set) != len(want) {
					t.Fatalf("after a pause of %v Lookup finds %v, %v, want %q", pause, set, err, want)
				}
				for i, in := range set {
					if in.ID != want[i] {
						t.Errorf("Lookup finds %s, want %s", in.ID, want[i])
					}
				}
			}
			find()
			g := watchtest.Register(t, other, instance("a"))
			find("a")
			watchtest.Register(t, other, instance("b"))
			find("a", "b")
			r.SetStatus("web", "b", registry.Maintenance)
			find("a")
			r.SetStatus("web", "a", registry.Critical)
			find()
			r.SetStatus("web", "a", registry.Passing)
			r.SetStatus("web", "b", registry.Passing)
			find("a", "b")
			if err := g.Deregister(t.Context()); err != nil {
				t.Fatal(err)
			}
			find("b")
			r.Fail(errors.New("the cable is cut"))
			time.Sleep(pause)
			var stale *registry.StaleError
			if set, err := r.Lookup(t.Context(), registry.Query{Service: "web"}); len(set) != 1 || set[0].ID != "b" || !errors.As(err, &stale) {
				t.Errorf("in an outage Lookup returns %v, %v", set, err)
			}
			r.Heal()
			find("b")
		})
	}
}

// An owner that is closed cannot register again: the entry stays lost.
func TestLookup_SeesALoss(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		owner := r.Client()
		watchtest.Register(t, owner, instance("a"))
		wantThere(t, r, true)
		owner.Crash()
		r.Expire("web", "a")
		wantThere(t, r, false)
		synctest.Wait()
		wantThere(t, r, false)
	})
}

func TestWatch_TellsDeparturesFromLosses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		leaver, crasher := watchtest.NewMemoryClient(t, r), r.Client()
		g := watchtest.Register(t, leaver, instance("a"))
		synctest.Wait()
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.All(); len(got) != 3 || !watchtest.Healthy(0)(got[2]) {
			t.Errorf("of an instance that leaves the watch yields %v", got)
		}
		watchtest.Register(t, crasher, instance("b"))
		synctest.Wait()
		crasher.Crash()
		r.Expire("web", "b")
		synctest.Wait()
		if got := w.All(); len(got[len(got)-1].Set) != 1 || got[len(got)-1].Err == nil {
			t.Errorf("of an instance that is lost the watch yields %v", got)
		}
		time.Sleep(registry.DefaultBackoffMax + time.Second)
		synctest.Wait()
		if got := w.All(); !watchtest.Healthy(0)(got[len(got)-1]) {
			t.Errorf("after the grace period the watch yields %v", got)
		}
	})
}

// Update and deletion may be read in one go, and a departure while the watch is cut.
func TestWatch_HearsOfDeparturesLate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		owner := watchtest.NewMemoryClient(t, r)
		var all []registry.Registration
		for _, id := range []string{"a", "b", "c"} {
			all = append(all, watchtest.Register(t, owner, instance(id)))
		}
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		r.Hang()
		for _, g := range all {
			if err := g.Deregister(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r.Heal()
		synctest.Wait()
		for _, p := range w.All() {
			if p.Err != nil {
				t.Errorf("the watch yields %v", p)
			}
		}
		if got := w.All(); len(got[len(got)-1].Set) != 0 {
			t.Errorf("the watch yields %v", got)
		}
	})
}

// A large service that is taken down at once has left on purpose, however many instances it had.
func TestWatch_TellsManyDeparturesFromLosses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		owner := watchtest.NewMemoryClient(t, r)
		for i := range 2500 {
			watchtest.Register(t, owner, instance(fmt.Sprint(i)))
		}
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		if err := owner.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, p := range w.All() {
			if p.Err != nil {
				t.Errorf("the watch yields %v", p)
			}
		}
		if got := w.All(); len(got[len(got)-1].Set) != 0 {
			t.Errorf("a second later there are %d instances", len(got[len(got)-1].Set))
		}
	})
}

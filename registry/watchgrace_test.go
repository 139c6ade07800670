package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_WithholdsAnEmptySetAfterAnOutage(t *testing.T) {
	// wiped is a store that was watched with one instance, went down, and came back with nothing.
	wiped := func(t *testing.T, o registry.Options) (*fake, *watchtest.Watcher) {
		d := newFake()
		d.put(instance("a"))
		w := watchtest.Watch(t, newRegistry(t, d, o), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		d.lose("web", "a")
		time.Sleep(time.Second)
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		return d, w
	}
	t.Run("the instances come back", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			got := w.Last()
			watchtest.WantIDs(t, got.Set, "a")
			if !errors.Is(got.Err, registry.ErrUnavailable) || !strings.Contains(got.Err.Error(), "the registry answers again, but the set shrank from 1 to 0 instances; the missing ones are kept for ") {
				t.Errorf("the error is %v", got.Err)
			}
			d.put(instance("a"))
			time.Sleep(time.Hour)
			if got := w.Last(); got.Err != nil {
				t.Errorf("when the instance is back: %v", got.Err)
			}
			for _, p := range w.All() {
				watchtest.WantIDs(t, p.Set, "a")
			}
		})
	})
	t.Run("they do not", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			time.Sleep(registry.DefaultOutageGrace)
			synctest.Wait()
			if got := w.Last(); got.Err != nil || got.Set == nil || len(got.Set) != 0 {
				t.Errorf("after the grace period: %v, %v", got.Set, got.Err)
			}
		})
	})
	t.Run("the next outage ends the grace period", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			d.fail(errors.New("down again"))
			time.Sleep(time.Hour)
			got := w.Last()
			watchtest.WantIDs(t, got.Set, "a")
			if !strings.Contains(got.Err.Error(), "down again") {
				t.Errorf("the error is %v", got.Err)
			}
		})
	})
	t.Run("not if it is turned off", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{OutageGrace: -1})
			if got := w.Last(); got.Err != nil || len(got.Set) != 0 {
				t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
		})
	})
	t.Run("and Close ends it", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			w.Stop()
		})
	})
}

// After a wipe the instances come back one after another. The first must not have to bear the calls of all.
func TestWatch_WithholdsAFewInstancesAfterAnOutage(t *testing.T) {
	const n = 5
	// wiped is a store that was watched with n instances, went down, and came back with one.
	wiped := func(t *testing.T, o registry.Options) (*fake, *watchtest.Watcher) {
		d := newFake()
		for i := range n {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watchtest.Watch(t, newRegistry(t, d, o), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		for i := range n - 1 {
			d.lose("web", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		d.fail(nil)
		for range 100 { // until the next attempt
			if time.Sleep(registry.DefaultBackoffMax / 50); !strings.Contains(fmt.Sprint(w.Last().Err), "down") {
				break
			}
		}
		return d, w
	}
	t.Run("the others come back", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			if got := w.Last(); len(got.Set) != n || !strings.Contains(fmt.Sprint(got.Err), "shrank from 5 to 1 instances") {
				t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
			d.put(instance("0"))
			d.put(instance("1"))
			time.Sleep(time.Second)
			got := w.Last()
			if watchtest.WantIDs(t, got.Set, "0", "1", "4"); got.Err != nil {
				t.Error(got.Err)
			}
			for _, p := range w.All() {
				if len(p.Set) < 3 {
					t.Errorf("a watcher saw %v", watchtest.IDs(p.Set))
				}
			}
		})
	})
	t.Run("they do not", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			time.Sleep(registry.DefaultBackoffMax + time.Second)
			synctest.Wait()
			got := w.Last()
			if watchtest.WantIDs(t, got.Set, "4"); got.Err != nil {
				t.Error(got.Err)
			}
		})
	})
	t.Run("the last goes too", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			d.lose("web", "4")
			time.Sleep(registry.DefaultOutageGrace - time.Second)
			if got := w.Last(); len(got.Set) != n || !strings.Contains(fmt.Sprint(got.Err), "shrank from 5 to 0 instances") {
				t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
			time.Sleep(2 * time.Second)
			if got := w.Last(); len(got.Set) != 0 || got.Err != nil {
				t.Errorf("after the grace period: %v, %v", watchtest.IDs(got.Set), got.Err)
			}
		})
	})
	t.Run("the last comes and goes", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			for range 4 {
				d.lose("web", "4")
				time.Sleep(3 * time.Second)
				d.put(instance("4"))
				time.Sleep(2 * time.Second)
			}
			got := w.Last()
			if watchtest.WantIDs(t, got.Set, "4"); got.Err != nil {
				t.Error(got.Err)
			}
		})
	})
	t.Run("not if it is turned off", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{OutageGrace: -1})
			watchtest.WantIDs(t, w.Last().Set, "4")
		})
	})
}

// The leases of all may run out a moment after the store is back. An empty set is then withheld for longer than without an outage.
func TestWatch_WithholdsAnEmptySetForLongerJustAfterAnOutage(t *testing.T) {
	for after, grace := range map[time.Duration]time.Duration{
		time.Second: registry.DefaultOutageGrace,
		registry.DefaultBackoffMax + 2*time.Second: registry.DefaultBackoffMax + time.Second,
	} {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			w := watchtest.Watch(t, newRegistry(t, d, registry.Options{}), web)
			synctest.Wait()
			d.fail(errors.New("down"))
			time.Sleep(time.Minute)
			d.fail(nil)
			for w.Last().Err != nil {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(after)
			d.lose("web", "a")
			time.Sleep(grace - time.Millisecond)
			if got := w.Last(); len(got.Set) != 1 || got.Err == nil {
				t.Errorf("emptied %v after the outage, within %v: %v, %v", after, grace, watchtest.IDs(got.Set), got.Err)
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if got := w.Last(); len(got.Set) != 0 || got.Err != nil {
				t.Errorf("emptied %v after the outage, after %v: %v, %v", after, grace, watchtest.IDs(got.Set), got.Err)
			}
		})
	}
}

// An agent may hang for longer than the leases of its instances. When it continues, the leases expire one after another, before their
// owners can renew them. Each set has at least half of the instances of the set before it, and the last set has a tenth.
func TestWatch_WithholdsInstancesThatGoOneByOneAfterAnOutage(t *testing.T) {
	const n = 20
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		for i := range n {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watchtest.Watch(t, newRegistry(t, d, registry.Options{}), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		time.Sleep(time.Second)
		d.fail(nil)
		for w.Last().Err != nil {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		for i := range n - 2 {
			d.lose("web", fmt.Sprint(i))
			time.Sleep(registry.DefaultSpacing)
		}
		if got := w.Last(); len(got.Set) != n/2 || !strings.Contains(fmt.Sprint(got.Err), "shrank from 20 to 2 instances") {
			t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
		}
		for i := range n - 2 {
			d.put(instance(fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		if got := w.Last(); len(got.Set) != n || got.Err != nil {
			t.Errorf("when they are back it says %v, %v", watchtest.IDs(got.Set), got.Err)
		}
		for _, p := range w.All() {
			if len(p.Set) < n/2 {
				t.Errorf("it said %v, %v", watchtest.IDs(p.Set), p.Err)
			}
		}
	})
}

// The next set is compared with the set that was published.
func TestWatch_WithholdsASetOnceAfterAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		for i := range 20 {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watchtest.Watch(t, newRegistry(t, d, registry.Options{OutageGrace: time.Second}), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		for i := range 15 {
			d.lose("web", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		d.fail(nil)
		for len(w.Last().Set) != 5 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		d.lose("web", "15")
		synctest.Wait()
		if got := w.Last(); len(got.Set) != 4 || got.Err != nil {
			t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
		}
	})
}

// A registry that answers and fails by turns must not have instances kept for ever that have gone.
func TestWatch_PublishesASuspectSetWhileTheRegistryFlaps(t *testing.T) {
	for name, left := range map[string][]string{"a few are left": {"4"}, "none is left": {}} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				var all []string
				for i := range 5 {
					d.put(instance(fmt.Sprint(i)))
					all = append(all, fmt.Sprint(i))
				}
				r := newRegistry(t, d, registry.Options{})
				w := watchtest.Watch(t, r, web)
				time.Sleep(time.Minute)
				d.crash(all[:5-len(left)]...)
				crashed := time.Now()
				for len(w.Last().Set) > len(left) && time.Since(crashed) < time.Minute {
					time.Sleep(900 * time.Millisecond)
					d.fail(errors.New("reset"))
					time.Sleep(100 * time.Millisecond)
					d.fail(nil)
					synctest.Wait()
				}
				watchtest.WantIDs(t, w.Last().Set, left...)
				limit := registry.DefaultOutageGrace + shortGrace
				if took := time.Since(crashed); took > 3*limit { // failures that happen to last longer than shortGrace do not count
					t.Errorf("what has gone was kept for %v, want about %v", took, limit)
				}
			})
		})
	}
}

// A long outage is another matter: leases expire in it.
func TestWatch_WithholdsAnewAfterALongOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"), instance("c"))
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Minute)
		d.crash("a", "b")
		time.Sleep(time.Second)
		d.fail(errors.New("down"))
		time.Sleep(time.Minute)
		d.crash("c")
		d.fail(nil)
		time.Sleep(registry.DefaultOutageGrace - time.Second)
		if got := w.Last(); len(got.Set) != 3 || got.Err == nil {
			t.Errorf("9 s after the outage: %v, %v", watchtest.IDs(got.Set), got.Err)
		}
		time.Sleep(3 * time.Second)
		if got := w.Last(); len(got.Set) != 0 || got.Err != nil {
			t.Errorf("12 s after the outage: %v, %v", watchtest.IDs(got.Set), got.Err)
		}
	})
}

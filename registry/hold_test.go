package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestAnEmptySetRightAfterAnOutageIsNotBelievedAtOnce(t *testing.T) {
	// wiped is a store that was watched with one instance, went down, and came back with nothing.
	wiped := func(t *testing.T, o registry.Options) (*fake, *watcher) {
		d := newFake()
		d.put(instance("a"))
		w := watch(t, newRegistry(t, d, o), web)
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
		synctest.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			got := w.last(t)
			wantIDs(t, got.set, "a")
			if !errors.Is(got.err, registry.ErrUnavailable) || !strings.Contains(got.err.Error(), "none of the 1 instances from before") {
				t.Errorf("the error is %v", got.err)
			}
			d.put(instance("a"))
			time.Sleep(time.Hour)
			if got := w.last(t); got.err != nil {
				t.Errorf("when the instance is back: %v", got.err)
			}
			for _, p := range w.all() {
				wantIDs(t, p.set, "a")
			}
		})
	})
	t.Run("they do not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			time.Sleep(registry.DefaultEmptyHold)
			synctest.Wait()
			if got := w.last(t); got.err != nil || got.set == nil || len(got.set) != 0 {
				t.Errorf("after the hold: %v, %v", got.set, got.err)
			}
		})
	})
	t.Run("the next outage ends the doubt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			d.fail(errors.New("down again"))
			time.Sleep(time.Hour)
			got := w.last(t)
			wantIDs(t, got.set, "a")
			if !strings.Contains(got.err.Error(), "down again") {
				t.Errorf("the error is %v", got.err)
			}
		})
	})
	t.Run("not where it is turned off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{EmptyHold: -1})
			if got := w.last(t); got.err != nil || len(got.set) != 0 {
				t.Errorf("it says %v, %v", ids(got.set), got.err)
			}
		})
	})
	t.Run("not without an outage", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			w := watch(t, newRegistry(t, d, registry.Options{}), web)
			synctest.Wait()
			d.lose("web", "a")
			synctest.Wait()
			if got := w.last(t); got.err != nil || len(got.set) != 0 {
				t.Errorf("it says %v, %v", ids(got.set), got.err)
			}
		})
	})
	t.Run("and Close ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			w.stop()
		})
	})
}

// After a wipe the instances come back one after another. The first must not have to bear the calls of all.
func TestFewInstancesRightAfterAnOutageAreNotBelievedAtOnce(t *testing.T) {
	const n = 5
	// wiped is a store that was watched with n instances, went down, and came back with one.
	wiped := func(t *testing.T, o registry.Options) (*fake, *watcher) {
		d := newFake()
		for i := range n {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watch(t, newRegistry(t, d, o), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		for i := range n - 1 {
			d.lose("web", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		d.fail(nil)
		for range 100 { // until the next attempt
			if time.Sleep(registry.DefaultBackoffMax / 50); !strings.Contains(fmt.Sprint(w.last(t).err), "down") {
				break
			}
		}
		return d, w
	}
	t.Run("the others come back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			if got := w.last(t); len(got.set) != n || !strings.Contains(fmt.Sprint(got.err), "less than half of the 5 instances") {
				t.Errorf("it says %v, %v", ids(got.set), got.err)
			}
			d.put(instance("0"))
			d.put(instance("1"))
			time.Sleep(time.Second)
			got := w.last(t)
			if wantIDs(t, got.set, "0", "1", "4"); got.err != nil {
				t.Error(got.err)
			}
			for _, p := range w.all() {
				if len(p.set) < 3 {
					t.Errorf("a watcher saw %v", ids(p.set))
				}
			}
		})
	})
	t.Run("they do not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{})
			time.Sleep(registry.DefaultBackoffMax + time.Second)
			synctest.Wait()
			got := w.last(t)
			if wantIDs(t, got.set, "4"); got.err != nil {
				t.Error(got.err)
			}
		})
	})
	t.Run("the last goes too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			d.lose("web", "4")
			time.Sleep(registry.DefaultEmptyHold - time.Second)
			if got := w.last(t); len(got.set) != n || !strings.Contains(fmt.Sprint(got.err), "none of the 5") {
				t.Errorf("it says %v, %v", ids(got.set), got.err)
			}
			time.Sleep(2 * time.Second)
			if got := w.last(t); len(got.set) != 0 || got.err != nil {
				t.Errorf("after the hold: %v, %v", ids(got.set), got.err)
			}
		})
	})
	t.Run("the last comes and goes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, w := wiped(t, registry.Options{})
			for range 4 {
				d.lose("web", "4")
				time.Sleep(3 * time.Second)
				d.put(instance("4"))
				time.Sleep(2 * time.Second)
			}
			got := w.last(t)
			if wantIDs(t, got.set, "4"); got.err != nil {
				t.Error(got.err)
			}
		})
	})
	t.Run("not where it is turned off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, w := wiped(t, registry.Options{EmptyHold: -1})
			wantIDs(t, w.last(t).set, "4")
		})
	})
}

// As where the leases of all run out a moment after the store is back.
func TestASetThatEmptiesJustAfterAnOutageIsNotBelievedAtOnce(t *testing.T) {
	for after, doubted := range map[time.Duration]bool{time.Second: true, registry.DefaultBackoffMax + 2*time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			w := watch(t, newRegistry(t, d, registry.Options{}), web)
			synctest.Wait()
			d.fail(errors.New("down"))
			time.Sleep(time.Minute)
			d.fail(nil)
			for w.last(t).err != nil {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(after)
			d.lose("web", "a")
			time.Sleep(time.Second)
			if got := w.last(t); doubted != (len(got.set) == 1 && got.err != nil) || doubted != (len(got.set) != 0) {
				t.Errorf("emptied %v after the outage: %v, %v", after, ids(got.set), got.err)
			}
			d.put(instance("a"))
			time.Sleep(time.Second)
			if got := w.last(t); len(got.set) != 1 || got.err != nil {
				t.Errorf("when it is back: %v, %v", ids(got.set), got.err)
			}
		})
	}
}

// An agent that hung for longer than the leases of its instances lets them run out one after another when it goes on, before
// their owners come through. No set has less than half of the one that was published before it, and the last one has a tenth.
func TestInstancesThatGoOneByOneRightAfterAnOutage(t *testing.T) {
	const n = 20
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		for i := range n {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watch(t, newRegistry(t, d, registry.Options{}), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		time.Sleep(time.Second)
		d.fail(nil)
		for w.last(t).err != nil {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		for i := range n - 2 {
			d.lose("web", fmt.Sprint(i))
			time.Sleep(registry.DefaultSpacing)
		}
		if got := w.last(t); len(got.set) != n/2 || !strings.Contains(fmt.Sprint(got.err), "less than half of the 20 instances") {
			t.Errorf("it says %v, %v", ids(got.set), got.err)
		}
		for i := range n - 2 {
			d.put(instance(fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		if got := w.last(t); len(got.set) != n || got.err != nil {
			t.Errorf("when they are back it says %v, %v", ids(got.set), got.err)
		}
		for _, p := range w.all() {
			if len(p.set) < n/2 {
				t.Errorf("it said %v, %v", ids(p.set), p.err)
			}
		}
		for i := range n - 2 { // long after it
			d.lose("web", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		if got := w.last(t); len(got.set) != 2 || got.err != nil {
			t.Errorf("of those that go long after it, it says %v, %v", ids(got.set), got.err)
		}
	})
}

// What is believed after a while is what the next set is compared with.
func TestWhatIsBelievedAfterAnOutageIsNotDoubtedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		for i := range 20 {
			d.put(instance(fmt.Sprint(i)))
		}
		w := watch(t, newRegistry(t, d, registry.Options{EmptyHold: time.Second}), web)
		synctest.Wait()
		d.fail(errors.New("down"))
		for i := range 15 {
			d.lose("web", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		d.fail(nil)
		for len(w.last(t).set) != 5 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		d.lose("web", "15")
		synctest.Wait()
		if got := w.last(t); len(got.set) != 4 || got.err != nil {
			t.Errorf("it says %v, %v", ids(got.set), got.err)
		}
	})
}

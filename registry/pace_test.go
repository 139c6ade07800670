package registry_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestAStormIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		time.Sleep(time.Minute)
		before := len(w.all())
		start := time.Now()
		for i := range 5000 {
			d.put(instance(fmt.Sprintf("%04d", i)))
			time.Sleep(2 * time.Millisecond)
		}
		storm := w.all()[before:]
		if got := storm[0].at.Sub(start); got > 2*time.Millisecond {
			t.Errorf("the first change after quiet came after %v, want at once", got)
		}
		if got := storm[registry.DefaultBurst-1].at.Sub(start); got > 2*registry.DefaultBurst*time.Millisecond {
			t.Errorf("a burst of %d came after %v, want at once", registry.DefaultBurst, got)
		}
		// One a 50 ms up to 500 instances, in the first second, and then rarer: up to one a 500 ms at 5,000.
		if n := len(storm); n > registry.DefaultBurst+70 || n < 50 {
			t.Errorf("%d sets in a storm of 10 s, want about 66", n)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := len(w.last(t).set); n != 5000 {
			t.Errorf("one spacing after the storm the set has %d instances, want 5000", n)
		}
	})
}

// pushing is a fake that says that its sources are told of each change.
type pushing struct{ *fake }

func (pushing) Pushes() bool { return true }

func TestWhatIsPushedIsHardlyPaced(t *testing.T) {
	for name, c := range map[string]struct {
		pushes   bool
		cacheDir bool
		min, max int
	}{
		"each change is a set of its own":       {pushes: true, min: 1000, max: 1000},
		"one that goes to disk each is not":     {pushes: true, cacheDir: true, min: 20, max: 50},
		"neither is one that has to be fetched": {min: 20, max: 50},
	} {
		t.Run(name, func(t *testing.T) {
			var o registry.Options
			if c.cacheDir {
				o.CacheDir = t.TempDir()
			}
			synctest.Test(t, func(t *testing.T) {
				store := newFake()
				var d registry.Driver = store
				if c.pushes {
					d = pushing{store}
				}
				r := newRegistry(t, d, o)
				w := watch(t, r, web)
				time.Sleep(time.Minute)
				before := len(w.all())
				for i := range 1000 {
					store.put(instance(fmt.Sprintf("%04d", i)))
					time.Sleep(2 * time.Millisecond)
				}
				if n := len(w.all()) - before; n < c.min || n > c.max {
					t.Errorf("%d sets of 1,000 changes, want %d to %d", n, c.min, c.max)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if n := len(w.last(t).set); n != 1000 {
					t.Errorf("after the storm the set has %d instances, want 1000", n)
				}
			})
		})
	}
}

package registry_test

import (
	"context"
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
		// With each change at first, one a 50 ms from 100 instances to 500, which take 0.8 s, and then rarer: up to one a 500 ms
		// at 5,000.
		if n := len(storm); n > registry.DefaultBurst+90 || n < 60 {
			t.Errorf("%d sets in a storm of 10 s, want about 76", n)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := len(w.last(t).set); n != 5000 {
			t.Errorf("one spacing after the storm the set has %d instances, want 5000", n)
		}
	})
}

// A read of few costs little: what changes in a small service is not held up, however long it goes on.
func TestASmallSetIsReadWithEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		d.put(instance("a"), instance("b"))
		time.Sleep(time.Minute)
		for i := range 500 {
			in := instance("a")
			in.Version = fmt.Sprint(i)
			d.put(in)
			synctest.Wait()
			if got := w.last(t).set[0].Version; got != in.Version {
				t.Fatalf("change %d is not there at once, but that of %s", i, got)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// spinning is a fake whose sources answer at once, as some store may that should wait for a change.
type spinning struct{ *fake }

func (d spinning) Follow(q registry.Query) registry.Source { return spinningSource{d.fake, q} }

type spinningSource struct {
	d *fake
	q registry.Query
}

func (s spinningSource) Next(ctx context.Context) ([]*registry.Instance, error) {
	return s.d.Follow(s.q).Next(ctx)
}

func (s spinningSource) Close() error { return nil }

func TestAnswersWithoutAChangeAreAskedForAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := spinning{newFake()}
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		watch(t, r, web)
		time.Sleep(time.Minute)
		if n := d.count(&d.nexts); n > 1250 || n < 1000 {
			t.Errorf("%d reads in 60 s of a store that never waits, want about 1,200", n)
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
		"nearly half of the changes make a set": {pushes: true, min: 400, max: 500},
		"one that goes to disk each is not":     {pushes: true, cacheDir: true, min: 40, max: 70},
		"neither is one that has to be fetched": {min: 40, max: 70},
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

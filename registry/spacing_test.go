package registry_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_SpacesReadsInAStorm(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Minute)
		before := len(w.All())
		start := time.Now()
		for i := range 5000 {
			d.put(instance(fmt.Sprintf("%04d", i)))
			time.Sleep(2 * time.Millisecond)
		}
		storm := w.All()[before:]
		if got := storm[0].At.Sub(start); got > 2*time.Millisecond {
			t.Errorf("the first change after quiet came after %v, want at once", got)
		}
		if got := storm[registry.DefaultBurst-1].At.Sub(start); got > 2*registry.DefaultBurst*time.Millisecond {
			t.Errorf("a burst of %d came after %v, want at once", registry.DefaultBurst, got)
		}
		// With each change at first, one a 50 ms from 100 instances to 500, which take 0.8 s, and then rarer: up to one a 500 ms
		// at 5,000.
		if n := len(storm); n > registry.DefaultBurst+90 || n < 60 {
			t.Errorf("%d sets in a storm of 10 s, want about 76", n)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := len(w.Last().Set); n != 5000 {
			t.Errorf("one spacing after the storm the set has %d instances, want 5000", n)
		}
	})
}

// A read of a small set costs little, so its changes are not delayed, however many there are.
func TestWatch_ReadsASmallSetAfterEachChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		d.put(instance("a"), instance("b"))
		time.Sleep(time.Minute)
		for i := range 500 {
			in := instance("a")
			in.Version = fmt.Sprint(i)
			d.put(in)
			synctest.Wait()
			if got := w.Last().Set[0].Version; got != in.Version {
				t.Fatalf("change %d is not there at once, but version %s", i, got)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// spinning is a fake whose sources answer at once, as some store may that should wait for a change.
type spinning struct{ *fake }

func (d spinning) Watch(q registry.Query) registry.Source { return spinningSource{d.fake, q} }

type spinningSource struct {
	d *fake
	q registry.Query
}

func (s spinningSource) Next(ctx context.Context) (registry.Set, error) {
	return s.d.Watch(s.q).Next(ctx)
}

func (s spinningSource) Close() error { return nil }

func TestWatch_ReadsAtABoundedRateIfAnswersBringNoChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := spinning{newFake()}
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		watchtest.Watch(t, r, web)
		time.Sleep(time.Minute)
		if n := d.count(&d.nexts); n > 1250 || n < 1000 {
			t.Errorf("%d reads in 60 s of a store that never waits, want about 1,200", n)
		}
	})
}

// pushing is a fake that says that its sources are told of each change.
type pushing struct{ *fake }

func (pushing) Properties() registry.Properties {
	return registry.Properties{Name: "pushing", Pushes: true}
}

func TestWatch_HardlySpacesPushedSets(t *testing.T) {
	for name, c := range map[string]struct {
		pushes   bool
		cacheDir bool
		min, max int
	}{
		"pushed: nearly half of the changes make a set": {pushes: true, min: 400, max: 500},
		"pushed, but saved to disk: few sets":           {pushes: true, cacheDir: true, min: 40, max: 70},
		"fetched: few sets":                             {min: 40, max: 70},
	} {
		t.Run(name, func(t *testing.T) {
			var o registry.Options
			if c.cacheDir {
				o.CacheDir = t.TempDir()
			}
			bubble.Test(t, func(t *testing.T) {
				store := newFake()
				var d registry.Driver = store
				if c.pushes {
					d = pushing{store}
				}
				r := newRegistry(t, d, o)
				w := watchtest.Watch(t, r, web)
				time.Sleep(time.Minute)
				before := len(w.All())
				for i := range 1000 {
					store.put(instance(fmt.Sprintf("%04d", i)))
					time.Sleep(2 * time.Millisecond)
				}
				if n := len(w.All()) - before; n < c.min || n > c.max {
					t.Errorf("%d sets of 1,000 changes, want %d to %d", n, c.min, c.max)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if n := len(w.Last().Set); n != 1000 {
					t.Errorf("after the storm the set has %d instances, want 1000", n)
				}
			})
		})
	}
}

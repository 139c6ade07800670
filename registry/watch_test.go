package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

var web = registry.Query{Service: "web"}

func TestWatchYieldsTheFirstSetEvenWhenEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		w := watch(t, r, web)
		synctest.Wait()
		if got := w.last(t); got.err != nil || got.set == nil || len(got.set) != 0 {
			t.Errorf("the first pair is %v, %v, want an empty set that is not nil", got.set, got.err)
		}
	})
}

func TestOneSourceForAllWatchersOfAQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		var ws []*watcher
		for i := range 100 {
			q := registry.Query{Service: "web", Tags: []string{"a", "b"}}
			if i%2 == 1 {
				q.Tags = []string{"b", "a", "b"} // the same query, written otherwise
			}
			ws = append(ws, watch(t, r, q))
		}
		synctest.Wait()
		tagged := instance("1")
		tagged.Tags = []string{"b", "c", "a"}
		d.put(tagged, instance("2"))
		synctest.Wait()
		for _, w := range ws {
			wantIDs(t, w.last(t).set, "1")
		}
		if d.followed != 1 {
			t.Errorf("%d sources were opened for one query, want 1", d.followed)
		}
		if n := d.count(&d.nexts); n > 4 {
			t.Errorf("Next was called %d times for a first set and two changes", n)
		}
		watch(t, r, registry.Query{Service: "web", Tags: []string{"a"}})
		synctest.Wait()
		if d.followed != 2 {
			t.Errorf("%d sources after a second query, want 2", d.followed)
		}
	})
}

func TestSetsAreSortedAndUnchangedInstancesKeepTheirPointers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("c"), instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		synctest.Wait()
		first := w.last(t).set
		wantIDs(t, first, "a", "b", "c")

		changed := instance("b")
		changed.Version = "2"
		d.put(changed, instance("a"), instance("c"), instance("d")) // a and c come as other pointers with the same content
		synctest.Wait()
		second := w.last(t).set
		wantIDs(t, second, "a", "b", "c", "d")
		if second[0] != first[0] || second[2] != first[2] {
			t.Error("an instance that did not change has another pointer")
		}
		if second[1] == first[1] || first[1].Version != "" {
			t.Error("a changed instance was changed in place")
		}
	})
}

func TestIdenticalSetsAreNotYieldedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		synctest.Wait()
		d.put(instance("a"))
		other := instance("x")
		other.Status = registry.Critical // selected by no query here
		d.put(other)
		synctest.Wait()
		if n := len(w.all()); n != 1 {
			t.Errorf("%d pairs were yielded, want 1", n)
		}
	})
}

func TestEachSliceIsTheReadersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		one, two := watch(t, r, web), watch(t, r, web)
		synctest.Wait()
		slices.Reverse(one.last(t).set)
		wantIDs(t, two.last(t).set, "a", "b")
		set, err := r.Lookup(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		wantIDs(t, set, "a", "b")
	})
}

func TestASlowReaderSkipsToTheNewestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		n := 0
		for set := range r.Watch(t.Context(), web) {
			n++
			if n == 1 {
				for i := range 20 {
					d.put(instance(fmt.Sprintf("%02d", i)))
					time.Sleep(time.Second)
				}
				continue
			}
			if len(set) != 20 {
				t.Errorf("after 20 changes that it did not see, the reader is given %d instances, want all 20", len(set))
			}
			break
		}
	})
}

func TestAnErrorComesWithTheLastGoodSetAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		synctest.Wait()
		d.fail(errors.New("the disk is full"))
		time.Sleep(10 * time.Minute)
		if n := len(w.all()); n != 2 {
			t.Fatalf("%d pairs in an outage with one cause, want 2: the set, and the error", n)
		}
		got := w.last(t)
		wantIDs(t, got.set, "a")
		var e *registry.Error
		if !errors.Is(got.err, registry.ErrUnavailable) || !errors.As(got.err, &e) || e.Op != "watch" || e.Service != "web" {
			t.Errorf("the error is %#v", got.err)
		}
		d.fail(fmt.Errorf("%w: no such token", registry.ErrDenied))
		time.Sleep(10 * time.Second)
		if got := w.last(t); !errors.Is(got.err, registry.ErrDenied) {
			t.Errorf("another cause is reported as %v", got.err)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if got := w.last(t); got.err != nil || len(got.set) != 1 {
			t.Errorf("after it healed the watch says %v, %v", ids(got.set), got.err)
		}
		if n := len(w.all()); n != 4 {
			t.Errorf("%d pairs, want 4", n)
		}
	})
}

func TestAWatchThatStartsInAnOutageRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		time.Sleep(time.Hour)
		if got := w.last(t); got.set != nil || got.err == nil {
			t.Errorf("nothing is known, and the watch says %v, %v", got.set, got.err)
		}
		d.put(instance("a"))
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		wantIDs(t, w.last(t).set, "a")
	})
}

func TestInstantErrorsAreAskedForAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{})
		watch(t, r, web)
		time.Sleep(10 * time.Minute)
		// Equal jitter makes the pause three quarters of BackoffMax on average.
		if n, want := d.count(&d.nexts), int(10*time.Minute/(registry.DefaultBackoffMax*3/4)); n < want*3/4 || n > want*3/2 {
			t.Errorf("%d attempts in 600 s of outage, want about %d", n, want)
		}
	})
}

func TestErrorsAndAnswersInTurnAreAskedForAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &flapping{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		watch(t, r, web)
		time.Sleep(time.Minute)
		if n := d.calls.Load(); n > 240 || n < 60 {
			t.Errorf("%d reads in 60 s of a store that answers every other read at once, want about 120", n)
		}
	})
}

// flapping answers every other read with an error, at once.
type flapping struct {
	*fake
	calls atomic.Int64
}

func (d *flapping) Follow(registry.Query) registry.Source { return d }

func (d *flapping) Next(ctx context.Context) ([]*registry.Instance, error) {
	if d.calls.Add(1)%2 == 0 {
		return nil, errors.New("odd")
	}
	return nil, nil
}

func TestAFeedLingersAndIsThenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{Linger: 10 * time.Second})
		w := watch(t, r, web)
		synctest.Wait()
		w.stop()
		<-w.done
		time.Sleep(9 * time.Second)
		w = watch(t, r, web)
		synctest.Wait()
		wantIDs(t, w.last(t).set, "a")
		if d.followed != 1 {
			t.Errorf("a reader that came back while the watch lingered cost %d sources, want 1", d.followed)
		}
		time.Sleep(time.Hour)
		if d.sourcesClosed != 0 {
			t.Error("the watch was stopped under its reader")
		}
		w.stop()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if d.sourcesClosed != 1 {
			t.Error("the watch did not end after its time to linger")
		}
		watch(t, r, web)
		synctest.Wait()
		if d.followed != 2 {
			t.Errorf("%d sources, want 2", d.followed)
		}
	})
}

func TestNegativeLingerEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{Linger: -1})
		for range r.Watch(t.Context(), web) {
			break
		}
		synctest.Wait()
		if d.sourcesClosed != 1 {
			t.Error("the source is still open")
		}
	})
}

func TestWatchEnds(t *testing.T) {
	t.Run("with its context, in mid-block and without a last pair", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, newRegistry(t, newFake(), registry.Options{}), web)
			synctest.Wait()
			w.stop()
			<-w.done
			if n := len(w.all()); n != 1 {
				t.Errorf("%d pairs, want 1", n)
			}
		})
	})
	t.Run("with ErrClosed and the last good set when the Registry is closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			r := newRegistry(t, d, registry.Options{})
			w := watch(t, r, web)
			synctest.Wait()
			r.Close()
			<-w.done
			got := w.last(t)
			wantIDs(t, got.set, "a")
			if !errors.Is(got.err, registry.ErrClosed) {
				t.Errorf("it ended with %v", got.err)
			}
			if d.closed != 1 || d.sourcesClosed != 1 {
				t.Errorf("the driver was closed %d times and its source %d times, want 1 and 1", d.closed, d.sourcesClosed)
			}
		})
	})
	t.Run("with ErrInvalid when the driver refuses the query, and a new watch asks again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			d.fail(fmt.Errorf("%w: filter", registry.ErrInvalid))
			r := newRegistry(t, d, registry.Options{})
			w := watch(t, r, web)
			<-w.done
			if got := w.all(); len(got) != 1 || !errors.Is(got[0].err, registry.ErrInvalid) {
				t.Errorf("it yielded %v", got)
			}
			d.fail(nil)
			w = watch(t, r, web)
			synctest.Wait()
			if got := w.last(t); got.err != nil {
				t.Errorf("a new watch says %v", got.err)
			}
		})
	})
	t.Run("with ErrInvalid for a query that selects nothing by its form, and no call is made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			w := watch(t, newRegistry(t, d, registry.Options{}), registry.Query{Service: "a/b"})
			<-w.done
			if got := w.last(t); !errors.Is(got.err, registry.ErrInvalid) || d.followed != 0 {
				t.Errorf("it says %v after %d sources", got.err, d.followed)
			}
		})
	})
}

func TestCloseEndsANextThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.shut()
		r := newRegistry(t, d, registry.Options{})
		w := watch(t, r, web)
		synctest.Wait()
		r.Close()
		<-w.done
		if got := w.last(t); !errors.Is(got.err, registry.ErrClosed) {
			t.Errorf("it ended with %v", got.err)
		}
	})
}

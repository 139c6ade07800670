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

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

var web = registry.Query{Service: "web"}

func TestWatch_YieldsTheFirstSetEvenIfEmpty(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		if got := w.Last(); got.Err != nil || got.Set == nil || len(got.Set) != 0 {
			t.Errorf("the first pair is %v, %v, want an empty set that is not nil", got.Set, got.Err)
		}
	})
}

func TestWatch_SharesOneSourceForOneQuery(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		var ws []*watchtest.Watcher
		for i := range 100 {
			q := registry.Query{Service: "web", Tags: []string{"a", "b"}}
			if i%2 == 1 {
				q.Tags = []string{"b", "a", "b"} // the same query, written otherwise
			}
			ws = append(ws, watchtest.Watch(t, r, q))
		}
		synctest.Wait()
		tagged := instance("1")
		tagged.Tags = []string{"b", "c", "a"}
		d.put(tagged, instance("2"))
		synctest.Wait()
		for _, w := range ws {
			watchtest.WantIDs(t, w.Last().Set, "1")
		}
		if d.watched != 1 {
			t.Errorf("%d sources were opened for one query, want 1", d.watched)
		}
		if n := d.count(&d.nexts); n > 4 {
			t.Errorf("Next was called %d times for a first set and two changes", n)
		}
		watchtest.Watch(t, r, registry.Query{Service: "web", Tags: []string{"a"}})
		synctest.Wait()
		if d.watched != 2 {
			t.Errorf("%d sources after a second query, want 2", d.watched)
		}
	})
}

func TestWatch_SortsAndKeepsPointersOfUnchangedInstances(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("c"), instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		first := w.Last().Set
		watchtest.WantIDs(t, first, "a", "b", "c")

		changed := instance("b")
		changed.Version = "2"
		d.put(changed, instance("a"), instance("c"), instance("d")) // a and c come as other pointers with the same content
		synctest.Wait()
		second := w.Last().Set
		watchtest.WantIDs(t, second, "a", "b", "c", "d")
		if second[0] != first[0] || second[2] != first[2] {
			t.Error("an instance that did not change has another pointer")
		}
		if second[1] == first[1] || first[1].Version != "" {
			t.Error("a changed instance was changed in place")
		}
	})
}

func TestWatch_YieldsIdenticalSetsOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		d.put(instance("a"))
		other := instance("x")
		other.Status = registry.Critical // selected by no query here
		d.put(other)
		synctest.Wait()
		if n := len(w.All()); n != 1 {
			t.Errorf("%d pairs were yielded, want 1", n)
		}
	})
}

func TestWatch_EachSliceIsTheReadersOwn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		one, two := watchtest.Watch(t, r, web), watchtest.Watch(t, r, web)
		synctest.Wait()
		slices.Reverse(one.Last().Set)
		watchtest.WantIDs(t, two.Last().Set, "a", "b")
		set, err := r.Lookup(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		watchtest.WantIDs(t, set, "a", "b")
	})
}

func TestWatch_SkipsToTheNewestSetForASlowReader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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

func TestWatch_YieldsAnErrorOnceBesideTheLastGoodSet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		d.fail(errors.New("the disk is full"))
		time.Sleep(10 * time.Minute)
		if n := len(w.All()); n != 2 {
			t.Fatalf("%d pairs in an outage with one cause, want 2: the set, and the error", n)
		}
		got := w.Last()
		watchtest.WantIDs(t, got.Set, "a")
		var e *registry.Error
		if !errors.Is(got.Err, registry.ErrUnavailable) || !errors.As(got.Err, &e) || e.Op != "watch" || e.Service != "web" {
			t.Errorf("the error is %#v", got.Err)
		}
		d.fail(fmt.Errorf("%w: no such token", registry.ErrDenied))
		time.Sleep(10 * time.Second)
		if got := w.Last(); !errors.Is(got.Err, registry.ErrDenied) {
			t.Errorf("another cause is reported as %v", got.Err)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if got := w.Last(); got.Err != nil || len(got.Set) != 1 {
			t.Errorf("after it healed the watch says %v, %v", watchtest.IDs(got.Set), got.Err)
		}
		if n := len(w.All()); n != 4 {
			t.Errorf("%d pairs, want 4", n)
		}
	})
}

func TestWatch_RecoversIfItStartsInAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Hour)
		if got := w.Last(); got.Set != nil || got.Err == nil {
			t.Errorf("nothing is known, and the watch says %v, %v", got.Set, got.Err)
		}
		d.put(instance("a"))
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "a")
	})
}

func TestWatch_RetriesInstantErrorsAtABoundedRate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		r := newRegistry(t, d, registry.Options{})
		watchtest.Watch(t, r, web)
		time.Sleep(10 * time.Minute)
		// Equal jitter makes the pause three quarters of BackoffMax on average.
		if n, want := d.count(&d.nexts), int(10*time.Minute/(registry.DefaultBackoffMax*3/4)); n < want*3/4 || n > want*3/2 {
			t.Errorf("%d attempts in 600 s of outage, want about %d", n, want)
		}
	})
}

func TestWatch_ReadsAtABoundedRateIfEveryOtherReadFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &flapping{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		watchtest.Watch(t, r, web)
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

func (d *flapping) Watch(registry.Query) registry.Source { return d }

func (d *flapping) Next(ctx context.Context) (registry.Set, error) {
	if d.calls.Add(1)%2 == 0 {
		return registry.Set{}, errors.New("odd")
	}
	return registry.Set{}, nil
}

func TestLinger_KeepsAWatchOpenForAWhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{Linger: 10 * time.Second})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		w.Stop()
		time.Sleep(9 * time.Second)
		w = watchtest.Watch(t, r, web)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "a")
		if d.watched != 1 {
			t.Errorf("a reader that came back while the watch lingered cost %d sources, want 1", d.watched)
		}
		time.Sleep(time.Hour)
		if d.sourcesClosed != 0 {
			t.Error("the watch was stopped under its reader")
		}
		w.Stop()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if d.sourcesClosed != 1 {
			t.Error("the watch did not end after its time to linger")
		}
		watchtest.Watch(t, r, web)
		synctest.Wait()
		if d.watched != 2 {
			t.Errorf("%d sources, want 2", d.watched)
		}
	})
}

func TestLinger_NegativeEndsTheWatchAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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

func TestWatch_Ends(t *testing.T) {
	t.Run("with its context, in mid-block and without a last pair", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			w := watchtest.Watch(t, newRegistry(t, newFake(), registry.Options{}), web)
			synctest.Wait()
			w.Stop()
			if n := len(w.All()); n != 1 {
				t.Errorf("%d pairs, want 1", n)
			}
		})
	})
	t.Run("with ErrClosed and the last good set when the Registry is closed", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			r := newRegistry(t, d, registry.Options{})
			w := watchtest.Watch(t, r, web)
			synctest.Wait()
			r.Close()
			<-w.Done()
			got := w.Last()
			watchtest.WantIDs(t, got.Set, "a")
			if !errors.Is(got.Err, registry.ErrClosed) {
				t.Errorf("it ended with %v", got.Err)
			}
			if d.closed != 1 || d.sourcesClosed != 1 {
				t.Errorf("the driver was closed %d times and its source %d times, want 1 and 1", d.closed, d.sourcesClosed)
			}
		})
	})
	t.Run("with ErrInvalid for a query that selects nothing by its form, and no call is made", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			w := watchtest.Watch(t, newRegistry(t, d, registry.Options{}), registry.Query{Service: "a/b"})
			<-w.Done()
			if got := w.Last(); !errors.Is(got.Err, registry.ErrInvalid) || d.watched != 0 {
				t.Errorf("it says %v after %d sources", got.Err, d.watched)
			}
		})
	})
}

func TestClose_EndsANextThatHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.shut()
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		r.Close()
		<-w.Done()
		if got := w.Last(); !errors.Is(got.Err, registry.ErrClosed) {
			t.Errorf("it ended with %v", got.Err)
		}
	})
}

func TestWatch_GoesOnIfTheRegistryRefusesTheQuery(t *testing.T) {
	refused := fmt.Errorf("%w: 400 Bad Request", registry.ErrInvalid)
	t.Run("after a good answer it is a failure like others", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			w := watchtest.Watch(t, newRegistry(t, d, registry.Options{}), web)
			synctest.Wait()
			d.fail(refused)
			time.Sleep(time.Minute)
			if got := w.Last(); !errors.Is(got.Err, registry.ErrInvalid) || len(got.Set) != 1 {
				t.Errorf("refused, it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
			d.fail(nil)
			time.Sleep(registry.DefaultBackoffMax)
			synctest.Wait()
			if got := w.Last(); got.Err != nil || len(w.All()) != 3 {
				t.Errorf("of %d pairs the last is %v, %v", len(w.All()), watchtest.IDs(got.Set), got.Err)
			}
		})
	})
	t.Run("without one it is tried again at a long interval", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.fail(refused)
			r := newRegistry(t, d, registry.Options{})
			w := watchtest.Watch(t, r, web)
			time.Sleep(time.Hour)
			if got := w.All(); len(got) != 1 || got[0].Set != nil || !errors.Is(got[0].Err, registry.ErrInvalid) {
				t.Errorf("refused, it yielded %v", got)
			}
			if n, most := d.count(&d.nexts), int(time.Hour/registry.RefusedPause)+1; n > most || n < most/2 {
				t.Errorf("%d reads in an hour, want about %d", n, most)
			}
			if set, err := r.Lookup(t.Context(), web); set != nil || !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("Lookup returns %v, %v", watchtest.IDs(set), err)
			}
			d.put(instance("a"))
			d.fail(nil)
			time.Sleep(registry.RefusedPause)
			synctest.Wait()
			if got := w.Last(); got.Err != nil || len(got.Set) != 1 {
				t.Errorf("accepted, it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
		})
	})
}

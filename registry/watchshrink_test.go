package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// shortGrace is how long a suspect set is withheld without an outage.
const shortGrace = registry.DefaultBackoffMax + time.Second

// departing is a fake whose sources report departures, as a store with a history does.
type departing struct {
	*fake
	left []string
}

type departingSource struct {
	registry.Source
	d *departing
}

func (d *departing) Watch(q registry.Query) registry.Source {
	return &departingSource{d.fake.Watch(q), d}
}

func (s *departingSource) Next(ctx context.Context) (registry.Set, error) {
	set, err := s.Source.Next(ctx)
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if err == nil {
		set.Departed, s.d.left = s.d.left, nil
	}
	return set, err
}

// leave removes instances at once, on purpose.
func (d *departing) leave(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.entries["web"], id)
	}
	d.left = append(d.left, ids...)
	d.wake()
}

// crash removes instances at once, as if their leases had expired together.
func (d *fake) crash(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.entries["web"], id)
	}
	d.wake()
}

func numbered(from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

// inService runs a test with a service of n instances that is watched, for passing instances and for all.
func inService(t *testing.T, n int, test func(t *testing.T, d *departing, passing, all *watchtest.Watcher)) {
	bubble.Test(t, func(t *testing.T) {
		d := &departing{fake: newFake()}
		for _, id := range numbered(0, n) {
			d.put(instance(id))
		}
		r := newRegistry(t, d, registry.Options{})
		passing, all := watchtest.Watch(t, r, web), watchtest.Watch(t, r, webAny)
		synctest.Wait()
		time.Sleep(time.Minute)
		test(t, d, passing, all)
	})
}

// wantSet fails unless the newest pair is a good set of these.
func wantSet(t *testing.T, w *watchtest.Watcher, ids ...string) {
	t.Helper()
	synctest.Wait()
	got := w.Last()
	if got.Err != nil {
		t.Errorf("the newest pair has the error %v", got.Err)
	}
	watchtest.WantIDs(t, got.Set, ids...)
}

// wantWithheld fails unless the newest pair has these, of which the last are withheld.
func wantWithheld(t *testing.T, w *watchtest.Watcher, withheld []string, ids ...string) {
	t.Helper()
	synctest.Wait()
	got := w.Last()
	watchtest.WantIDs(t, got.Set, ids...)
	if stale := wantStale(t, got.Err, registry.FromRegistry); !slices.Equal(stale.Withheld, withheld) || !errors.Is(got.Err, registry.ErrUnavailable) {
		t.Errorf("withheld are %q, want %q; the error is %v", stale.Withheld, withheld, got.Err)
	}
}

func TestWatch_WithholdsASetThatShrinksAtOnce(t *testing.T) {
	t.Run("until they are back", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash(numbered(1, 6)...)
			wantWithheld(t, w, numbered(1, 6), numbered(0, 6)...)
			time.Sleep(time.Second)
			d.put(instance("1"))
			wantWithheld(t, w, numbered(2, 6), numbered(0, 6)...)
			d.put(instance("2"))
			wantSet(t, w, "0", "1", "2")
		})
	})
	t.Run("for a short time only", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash(numbered(1, 6)...)
			time.Sleep(shortGrace - time.Millisecond)
			wantWithheld(t, w, numbered(1, 6), numbered(0, 6)...)
			time.Sleep(time.Millisecond)
			wantSet(t, w, "0")
			d.put(instance("x"), instance("y"))
			wantSet(t, w, "0", "x", "y")
			d.crash("x") // what was published after all is what is compared with
			wantSet(t, w, "0", "y")
		})
	})
	t.Run("an only instance that crashes", func(t *testing.T) {
		inService(t, 1, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash("0")
			wantWithheld(t, w, []string{"0"}, "0")
			time.Sleep(shortGrace)
			wantSet(t, w)
		})
	})
	t.Run("though they go one after another", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			for _, id := range numbered(0, 5) {
				d.crash(id)
				time.Sleep(100 * time.Millisecond)
			}
			wantWithheld(t, w, numbered(3, 5), numbered(3, 6)...)
			for _, p := range w.All() {
				if len(p.Set) < 3 {
					t.Errorf("it yielded %v", watchtest.IDs(p.Set))
				}
			}
		})
	})
	t.Run("not if it shrinks slowly", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			for _, id := range numbered(0, 5) {
				d.crash(id)
				time.Sleep(shortGrace + time.Millisecond)
			}
			wantSet(t, w, "5")
			for _, p := range w.All() {
				if p.Err != nil {
					t.Errorf("it yielded %v", p.Err)
				}
			}
		})
	})
	t.Run("not if others take their place", func(t *testing.T) {
		inService(t, 2, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.put(instance("a"), instance("b"))
			d.crash("0", "1")
			wantSet(t, w, "a", "b")
		})
	})
	t.Run("not a first set, however small", func(t *testing.T) {
		inService(t, 0, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) { wantSet(t, w) })
	})
	t.Run("and new instances are shown meanwhile", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash(numbered(1, 6)...)
			synctest.Wait()
			d.put(instance("new"))
			wantWithheld(t, w, numbered(1, 6), append(numbered(0, 6), "new")...)
		})
	})
	t.Run("an outage in between ends it", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash(numbered(1, 6)...)
			synctest.Wait()
			d.fail(errors.New("down"))
			time.Sleep(time.Hour)
			if got := w.Last(); len(got.Set) != 6 || got.Err == nil {
				t.Errorf("it says %v, %v", watchtest.IDs(got.Set), got.Err)
			}
		})
	})
	t.Run("an instance that comes and goes without end does not keep the others", func(t *testing.T) {
		inService(t, 4, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash("1", "2", "3")
			for range 20 {
				d.crash("0")
				time.Sleep(300 * time.Millisecond)
				d.put(instance("0"))
				time.Sleep(300 * time.Millisecond)
			}
			wantSet(t, w, "0")
		})
	})
	t.Run("not if it is turned off", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("0"))
			w := watchtest.Watch(t, newRegistry(t, d, registry.Options{OutageGrace: -1}), web)
			synctest.Wait()
			d.crash("0")
			wantSet(t, w)
		})
	})
}

func TestWatch_WithholdsInstancesThatStopPassing(t *testing.T) {
	t.Run("by themselves", func(t *testing.T) {
		inService(t, 4, func(t *testing.T, d *departing, passing, all *watchtest.Watcher) {
			d.put(withStatus("1", registry.Critical), withStatus("2", registry.Critical), withStatus("3", registry.Warning))
			wantWithheld(t, passing, numbered(1, 4), numbered(0, 4)...)
			wantWithheld(t, all, numbered(1, 4), numbered(0, 4)...)
			time.Sleep(shortGrace)
			wantSet(t, passing, "0")
			wantSet(t, all, numbered(0, 4)...)
		})
	})
	t.Run("not if they are in maintenance", func(t *testing.T) {
		inService(t, 4, func(t *testing.T, d *departing, passing, all *watchtest.Watcher) {
			for _, id := range numbered(0, 4) {
				d.put(withStatus(id, registry.Maintenance))
			}
			wantSet(t, passing)
			wantSet(t, all, numbered(0, 4)...)
			d.crash(numbered(0, 4)...) // as Consul does it: first the status, then the entry
			wantSet(t, all)
		})
	})
	t.Run("of instances that are not in maintenance", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, passing, _ *watchtest.Watcher) {
			d.put(withStatus("0", registry.Maintenance), withStatus("1", registry.Maintenance), withStatus("2", registry.Maintenance))
			wantSet(t, passing, "3", "4", "5")
			time.Sleep(time.Hour)
			d.crash("3", "4", "5")
			wantWithheld(t, passing, numbered(3, 6), numbered(3, 6)...)
		})
	})
}

func TestWatch_ShowsDeparturesAtOnce(t *testing.T) {
	t.Run("of all", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.leave(numbered(0, 6)...)
			wantSet(t, w)
		})
	})
	t.Run("one after another", func(t *testing.T) {
		inService(t, 10, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			for i := range 10 {
				d.leave(fmt.Sprint(i))
				time.Sleep(registry.DefaultSpacing)
				wantSet(t, w, numbered(i+1, 10)...)
			}
		})
	})
	t.Run("while others are withheld", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.crash(numbered(2, 6)...)
			wantWithheld(t, w, numbered(2, 6), numbered(0, 6)...)
			d.leave("0")
			wantWithheld(t, w, numbered(2, 6), numbered(1, 6)...)
		})
	})
	t.Run("and what is lost with them is withheld", func(t *testing.T) {
		inService(t, 10, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.mu.Lock()
			d.left = numbered(0, 4)
			d.mu.Unlock()
			d.crash(numbered(0, 8)...)
			wantWithheld(t, w, numbered(4, 8), numbered(4, 10)...)
		})
	})
	t.Run("though it happened in an outage", func(t *testing.T) {
		inService(t, 6, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.fail(errors.New("down"))
			time.Sleep(time.Minute)
			d.leave(numbered(0, 5)...)
			d.fail(nil)
			time.Sleep(registry.DefaultBackoffMax)
			wantSet(t, w, "5")
		})
	})
	t.Run("an instance that came back and then crashes is lost", func(t *testing.T) {
		inService(t, 1, func(t *testing.T, d *departing, w, _ *watchtest.Watcher) {
			d.leave("0")
			wantSet(t, w)
			d.put(instance("0"))
			wantSet(t, w, "0")
			d.crash("0")
			wantWithheld(t, w, []string{"0"}, "0")
		})
	})
}

func TestDeregister_IsADepartureForTheOwnRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake() // which reports none
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSet(t, w)
		if n := len(w.All()); n != 2 {
			t.Errorf("%d pairs, want 2", n)
		}
	})
}

func TestUpdate_ToAnotherStatusIsADepartureForTheOwnRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		w := watchtest.Watch(t, r, web)
		for range 3 {
			synctest.Wait()
			if err := g.Update(t.Context(), withStatus("a", registry.Critical)); err != nil {
				t.Fatal(err)
			}
			wantSet(t, w)
			if err := g.Update(t.Context(), instance("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			wantSet(t, w, "a")
		}
		d.put(withStatus("a", registry.Critical))
		wantWithheld(t, w, []string{"a"}, "a")
	})
}

// The time within which a set must shrink has the limit that the package's documentation names, however long BackoffMax is.
func TestWatch_ShowsASetThatShrinksSlowly(t *testing.T) {
	for _, o := range []registry.Options{{}, {BackoffMax: time.Minute}, {OutageGrace: time.Second}} {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			for i := range 40 {
				d.put(instance(fmt.Sprintf("%02d", i)))
			}
			r := newRegistry(t, d, o)
			w := watchtest.Watch(t, r, web)
			time.Sleep(time.Minute)
			for i := range 39 {
				d.crash(fmt.Sprintf("%02d", i))
				time.Sleep(11 * time.Second)
				if got := w.Last(); got.Err != nil || len(got.Set) != 39-i {
					t.Fatalf("BackoffMax %v: 11 s after instance %d of 40 has gone: %d instances, %v", o.BackoffMax, i, len(got.Set), got.Err)
				}
				for _, p := range w.All() {
					if p.Err != nil {
						t.Fatalf("BackoffMax %v: one of %d instances goes: %v", o.BackoffMax, 40-i, p.Err)
					}
				}
			}
		})
	}
}

// A store that loses its data has every set suspect.
func TestWatch_LogsAFewSuspectSetsOfMany(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		const watches = 50
		put := func() {
			for i := range watches {
				in := instance("a")
				in.Service = fmt.Sprint("web", i)
				d.put(in)
			}
		}
		lose := func() {
			for i := range watches {
				d.lose(fmt.Sprint("web", i), "a")
			}
		}
		put()
		for i := range watches {
			watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("web", i)})
		}
		time.Sleep(time.Minute)
		lose()
		time.Sleep(2 * time.Minute)
		for _, text := range []string{"suspect set withheld", "suspect set published"} {
			if n := log.with(text); n != 10 {
				t.Errorf("%d of %d sets are logged as %q, want 10", n, watches, text)
			}
		}
		put()
		time.Sleep(time.Minute)
		lose()
		time.Sleep(time.Minute)
		if n := log.with("suspect set withheld", "not_logged_before=40"); n != 1 {
			t.Errorf("%d lines tell how many sets were not logged, want 1:\n%s", n, &log.text)
		}
	})
}

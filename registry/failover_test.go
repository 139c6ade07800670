package registry_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// namedFake is one store of a failover. Its instances have the name of the store as their zone.
type namedFake struct {
	*fake
	name string
}

func (d namedFake) Properties() registry.Properties {
	return registry.Properties{Name: d.name, Address: d.name + ":80", Pushes: d.name != "third"}
}

// only makes these the instances of the service.
func (d namedFake) only(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.entries["web"])
	d.wake()
	for _, id := range ids {
		in := instance(id)
		in.Zone = d.name
		d.write(&in)
	}
}

func (d namedFake) reads() int { return d.count(&d.nexts) }

// testFailover runs a test with three stores and a Registry over them that withholds no set.
func testFailover(t *testing.T, test func(t *testing.T, r *registry.Registry, first, second, third namedFake)) {
	bubble.Test(t, func(t *testing.T) {
		first, second, third := namedFake{newFake(), "first"}, namedFake{newFake(), "second"}, namedFake{newFake(), "third"}
		r := newRegistry(t, registry.Failover(first, second, third), registry.Options{OutageGrace: -1})
		test(t, r, first, second, third)
	})
}

// wantFrom fails unless the newest pair soon is the set of a store, without an error.
func wantFrom(t *testing.T, w *watchtest.Watcher, store namedFake, ids ...string) {
	t.Helper()
	time.Sleep(2 * time.Second)
	wantSet(t, w, ids...)
	for _, in := range w.Last().Set {
		if in.Zone != store.name {
			t.Errorf("%s is from the %s store, want the %s one", in.ID, in.Zone, store.name)
		}
	}
}

func wantNeverEmpty(t *testing.T, w *watchtest.Watcher) {
	t.Helper()
	for _, p := range w.All() {
		if len(p.Set) == 0 {
			t.Errorf("in between the watch yielded %v, %v", p.Set, p.Err)
		}
	}
}

func TestFailover_GoesToTheNextStoreAndComesBack(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, third namedFake) {
		first.only("a")
		second.only("b")
		third.only("c")
		w := watchtest.Watch(t, r, web)
		wantFrom(t, w, first, "a")
		if second.reads()+third.reads() != 0 {
			t.Error("the others are read while the first store has an instance")
		}
		first.only()
		wantFrom(t, w, second, "b")
		second.only("b", "b2")
		wantFrom(t, w, second, "b", "b2")
		second.only()
		wantFrom(t, w, third, "c")
		second.only("b3")
		wantFrom(t, w, second, "b3")
		first.only("a2")
		wantFrom(t, w, first, "a2")
		second.only("b4") // which is not read now
		before := second.reads()
		time.Sleep(time.Hour)
		if n := second.reads() - before; n > 1 {
			t.Errorf("the second store was read %d times while the first one had an instance", n)
		}
		first.only()
		wantFrom(t, w, second, "b4")
		first.only("a3")
		wantFrom(t, w, first, "a3")
		wantNeverEmpty(t, w)
	})
}

func TestFailover_PassesOverAStoreThatDoesNotAnswerOrFails(t *testing.T) {
	for name, end := range map[string]func(d namedFake) (heal func()){
		"does not answer": func(d namedFake) func() { return d.shut() },
		"fails": func(d namedFake) func() {
			d.fail(errors.New("500 Internal Server Error"))
			return func() { d.fail(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			testFailover(t, func(t *testing.T, r *registry.Registry, first, second, third namedFake) {
				first.only("a")
				second.only("b")
				third.only("c")
				heal := end(second)
				w := watchtest.Watch(t, r, web)
				wantFrom(t, w, first, "a")
				first.only()
				synctest.Wait()
				wantSet(t, w, "c") // at once
				heal()
				time.Sleep(5 * time.Second)
				wantFrom(t, w, second, "b")
				first.only("a2")
				wantFrom(t, w, first, "a2")
				wantNeverEmpty(t, w)
			})
		})
	}
}

func TestFailover_WithoutAnInstanceAnywhere(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, third namedFake) {
		w := watchtest.Watch(t, r, web)
		wantFrom(t, w, first)
		third.only("c")
		wantFrom(t, w, third, "c")
		third.only()
		wantFrom(t, w, first)
		first.only("a")
		wantFrom(t, w, first, "a")
	})
}

// An instance that does not pass is no reason to stay, but it is part of the set.
func TestFailover_LooksForInstancesThatPass(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, _ namedFake) {
		ill := instance("ill")
		ill.Status, ill.Zone = registry.Critical, "first"
		first.put(ill)
		w := watchtest.Watch(t, r, webAny)
		wantFrom(t, w, first, "ill")
		second.only("b")
		wantFrom(t, w, second, "b")
	})
}

func TestFailover_SaysThatAnotherStoreMayHaveSome(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, third namedFake) {
		first.only("a")
		second.fail(errors.New("no route to the second store"))
		open := third.shut()
		w := watchtest.Watch(t, r, web)
		wantFrom(t, w, first, "a")
		first.only()
		time.Sleep(10 * time.Second)
		p := w.Last()
		watchtest.WantIDs(t, p.Set, "a")
		if p.Err == nil || !strings.Contains(p.Err.Error(), "no route to the second store") {
			t.Errorf("the error is %v", p.Err)
		}
		second.fail(nil)
		time.Sleep(10 * time.Second)
		if _, err := r.Lookup(t.Context(), web); err == nil || !strings.Contains(err.Error(), "third has not answered yet") {
			t.Errorf("the error is %v", err)
		}
		open()
		wantFrom(t, w, first)
	})
}

func TestFailover_StaysWithTheFirstStoreInAnOutage(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, _ namedFake) {
		first.only("a")
		second.only("b")
		w := watchtest.Watch(t, r, web)
		wantFrom(t, w, first, "a")
		first.fail(errors.New("down"))
		time.Sleep(time.Hour)
		p := w.Last()
		if watchtest.WantIDs(t, p.Set, "a"); p.Err == nil || second.reads() != 0 {
			t.Errorf("the error is %v, and the second store was read %d times", p.Err, second.reads())
		}
		if n := first.reads(); n > 2*3600 {
			t.Errorf("the first store was read %d times in an hour", n)
		}
		first.fail(nil)
		first.only("a", "z")
		wantFrom(t, w, first, "a", "z")
	})
}

func TestFailover_GoesToTheNextStoreIfTheFirstFailsFromTheStart(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, _ namedFake) {
		first.fail(errors.New("down"))
		second.only("b")
		w := watchtest.Watch(t, r, web)
		wantFrom(t, w, second, "b")
		first.fail(nil)
		first.only("a")
		time.Sleep(5 * time.Second)
		wantFrom(t, w, first, "a")
	})
}

func TestFailover_Lookup(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, _, second, third namedFake) {
		third.only("c")
		second.shut()
		set, err := r.Lookup(watchtest.Within(t, time.Minute), webAny)
		if err != nil {
			t.Errorf("Lookup returns %v", err)
		}
		watchtest.WantIDs(t, set, "c")
	})
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, third namedFake) {
		second.shut()
		began := time.Now()
		if set, err := r.Lookup(watchtest.Within(t, time.Minute), web); !errors.Is(err, registry.ErrUnavailable) || len(set) != 0 {
			t.Errorf("while a store does not answer, Lookup returns %v, %v", set, err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v, want 1 s", took)
		}
		for _, d := range []namedFake{first, second, third} {
			if n := d.reads(); n != 1 {
				t.Errorf("the %s store was read %d times, want once: a further read would wait for a change", d.name, n)
			}
		}
	})
}

func TestFailover_RegistersInTheFirstStore(t *testing.T) {
	testFailover(t, func(t *testing.T, r *registry.Registry, first, second, _ namedFake) {
		g := watchtest.Register(t, r, instance("a"))
		if !first.has("web", "a") || second.has("web", "a") {
			t.Error("it is not in the first store alone")
		}
		if err := g.Deregister(t.Context()); err != nil || first.has("web", "a") {
			t.Errorf("Deregister returns %v", err)
		}
		if names, err := r.Services(t.Context()); err != nil || !slices.Equal(names, []string{"a", "b"}) {
			t.Errorf("Services returns %q, %v", names, err)
		}
	})
}

func TestFailover_ClosesEveryDriver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		first, second := newFake(), newFake()
		r := newRegistry(t, registry.Failover(first, second), registry.Options{})
		watchtest.Watch(t, r, web)
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, d := range []*fake{first, second} {
			if d.closed != 1 || d.sourcesClosed != d.watched {
				t.Errorf("a driver was closed %d times, and %d of its %d sources", d.closed, d.sourcesClosed, d.watched)
			}
		}
	})
}

func TestFailover_Properties(t *testing.T) {
	first, second, third := namedFake{nil, "first"}, namedFake{nil, "second"}, namedFake{nil, "third"}
	p := registry.Failover(first, second).Properties()
	if p.Name != "first, second" || p.Address != "first:80" || !p.Pushes {
		t.Errorf("Properties returns %+v", p)
	}
	if registry.Failover(first, third).Properties().Pushes {
		t.Error("it pushes although the third store does not")
	}
	var reports []string
	p = registry.Failover(reporting{newFake(), "a"}, first, reporting{newFake(), "b"}).Properties()
	p.Subscribe(func(err error) { reports = append(reports, err.Error()) })
	if !slices.Equal(reports, []string{"a", "b"}) {
		t.Errorf("reported are %q", reports)
	}
}

// A decorator changes nothing, and the rate limit counts the reads of all stores.
func TestFailover_IsLimitedByRate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		first, second := newFake(), newFake()
		decorated := struct{ registry.Driver }{registry.Failover(spinning{first}, spinning{second})}
		r := newRegistry(t, decorated, registry.Options{Rate: 2})
		watchtest.Watch(t, r, web)
		time.Sleep(100 * time.Second)
		if n := first.count(&first.nexts) + second.count(&second.nexts); n > 203 || n < 190 {
			t.Errorf("%d reads in 100 s, want about 200", n)
		}
	})
}

// reporting is a driver that reports a failure as soon as it is asked to.
type reporting struct {
	*fake
	failure string
}

func (d reporting) Properties() registry.Properties {
	return registry.Properties{Name: "reporting", Subscribe: func(report func(error)) { report(errors.New(d.failure)) }}
}

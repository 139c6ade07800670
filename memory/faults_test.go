package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// calls makes each kind of call of r, for a second, and returns the errors.
func calls(t *testing.T, r *memory.Registry, g registry.Registration) map[string]error {
	second := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	errs := map[string]error{}
	_, errs["Register"] = r.Register(second(), instance("b"))
	_, errs["Lookup"] = r.Lookup(second(), registry.Query{Service: "another"})
	_, errs["Services"] = r.Services(second())
	errs["Update"] = g.Update(second(), instance("a"))
	errs["Deregister"] = g.Deregister(second())
	return errs
}

// watcher collects what a watch of web yields, until the end of the test.
type watcher struct {
	mu    sync.Mutex
	pairs []pair
}

type pair struct {
	n   int // instances
	err error
}

func watch(t *testing.T, d registry.Discovery) *watcher {
	w := new(watcher)
	go func() {
		for set, err := range d.Watch(t.Context(), web) {
			w.mu.Lock()
			w.pairs = append(w.pairs, pair{len(set), err})
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *watcher) all() []pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pairs)
}

func TestFail(t *testing.T) {
	cause := errors.New("the cable is cut")
	for name, c := range map[string]struct{ fail, want error }{
		"an error":                           {cause, registry.ErrUnavailable},
		"an error, which can be told apart":  {cause, cause},
		"a kind of failure stays as it is":   {registry.ErrDenied, registry.ErrDenied},
		"also where another is wrapped in":   {fmt.Errorf("%w: %w", registry.ErrDenied, cause), cause},
		"an outage of its own making is one": {registry.ErrUnavailable, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				other := newStore(t)
				r := newClient(t, other)
				g := register(t, r, instance("a"))
				r.Fail(c.fail)
				for call, err := range calls(t, r, g) {
					if !errors.Is(err, c.want) {
						t.Errorf("%s returns %v, want %v", call, err, c.want)
					}
				}
				wantThere(t, other, true)
			})
		})
	}
}

func TestFailEndsWhatIsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := newStore(t)
		r := newClient(t, other)
		g := register(t, r, instance("a"))
		n := 0
		for set, err := range r.Watch(t.Context(), web) {
			switch n++; n {
			case 1:
				synctest.Wait() // the watch blocks in the store now, and so does the keeper
				r.Fail(errors.New("the cable is cut"))
			case 2:
				if !errors.Is(err, registry.ErrUnavailable) || len(set) != 1 {
					t.Errorf("the watch yields %v, %v", set, err)
				}
				synctest.Wait()
				if err := g.Err(); !errors.Is(err, registry.ErrUnavailable) {
					t.Errorf("Err says %v", err)
				}
				wantThere(t, other, true)
				time.Sleep(memory.DefaultTTL + time.Second)
				wantThere(t, other, false)
				r.Heal()
			}
			if n > 2 && err == nil && len(set) == 1 {
				break
			}
		}
		synctest.Wait()
		if err := g.Err(); err != nil {
			t.Errorf("healed, Err says %v", err)
		}
		wantThere(t, other, true)
	})
}

func TestFailNilHeals(t *testing.T) {
	r := newStore(t)
	r.Fail(errors.New("the cable is cut"))
	r.Fail(nil)
	wantThere(t, r, false)
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := newStore(t)
		r := newClient(t, other)
		g := register(t, r, instance("a"))
		r.Hang()
		for call, err := range calls(t, r, g) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s returns %v, want the context's error", call, err)
			}
		}
		wantThere(t, other, true)
	})
}

func TestHangCutsOffWhatIsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := newStore(t)
		r := newClient(t, other)
		g := register(t, r, instance("a"))
		w := watch(t, r)
		synctest.Wait()
		r.Hang()
		register(t, other, instance("b"))
		time.Sleep(memory.DefaultTTL + time.Second)
		synctest.Wait()
		if got := w.all(); len(got) != 1 {
			t.Errorf("cut off, the watch yielded %v, want the first pair alone", got)
		}
		if err := g.Err(); err != nil {
			t.Errorf("cut off, Err says %v, though nobody could tell it", err)
		}
		wantThere(t, other, false)
		r.Heal()
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		wantThere(t, other, true)
		if got := w.all(); got[len(got)-1].n != 2 {
			t.Errorf("healed, the watch yielded %v, want two instances at last", got)
		}
	})
}

func TestDropWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStore(t)
		other := newClient(t, r)
		register(t, r, instance("a"))
		mine, others := watch(t, r), watch(t, other)
		synctest.Wait()
		r.DropWatches()
		synctest.Wait()
		if got := mine.all(); len(got) != 2 || got[1].n != 1 || !errors.Is(got[1].err, registry.ErrUnavailable) {
			t.Errorf("dropped, the watch has yielded %v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := mine.all(); len(got) != 3 || got[2].n != 1 || got[2].err != nil {
			t.Errorf("it is not dropped again, and the watch has yielded %v", got)
		}
		if got := others.all(); len(got) != 1 {
			t.Errorf("the watch of another client has yielded %v", got)
		}
	})
}

func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStore(t)
		if r.Expire("web", "a") {
			t.Error("there is nothing to expire")
		}
		g := register(t, r, instance("a"))
		other := newClient(t, r)
		if !other.Expire("web", "a") {
			t.Error("it was there to expire")
		}
		wantThere(t, r, false)
		time.Sleep(registry.DefaultBackoffMax)
		wantThere(t, r, true) // its owner has announced it again
		if err := g.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestSetStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStore(t)
		if r.SetStatus("web", "a", registry.Critical) {
			t.Error("there is nothing to set a status of")
		}
		g := register(t, r, instance("a"))
		other := newClient(t, r)
		want := func(want registry.Status) {
			t.Helper()
			for _, c := range []*memory.Registry{r, other} {
				if got, there, err := status(c); got != want || !there || err != nil {
					t.Errorf("the status is %v, want %v (there: %v, error: %v)", got, want, there, err)
				}
			}
		}
		for _, s := range []registry.Status{registry.Maintenance, registry.Critical} {
			if !other.SetStatus("web", "a", s) {
				t.Error("it was there to set a status of")
			}
			time.Sleep(time.Hour) // renewing leaves it alone
			want(s)
		}
		if err := g.Err(); err != nil {
			t.Errorf("the owner's Err is %v", err)
		}
		if err := g.Update(t.Context(), instance("a")); err != nil {
			t.Fatal(err)
		}
		want(registry.Passing)
	})
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStore(t)
		other := newClient(t, r)
		want := func(what string, want int) {
			t.Helper()
			if got := r.Calls(); got != want {
				t.Errorf("after %s, Calls returns %d, want %d", what, got, want)
			}
		}
		want("nothing", 0)
		g := register(t, r, instance("a"))
		want("Register", 1)
		time.Sleep(memory.DefaultTTL/3 + time.Second)
		want("a renewal", 2)
		g.Update(t.Context(), instance("a"))
		want("Update", 3)
		r.Lookup(t.Context(), web)
		r.Services(t.Context())
		want("Lookup and Services", 5)
		g.Deregister(t.Context())
		want("Deregister", 6)
		if got := other.Calls(); got != 0 {
			t.Errorf("another client has made %d calls", got)
		}
	})
}

// The faults are there under a test's own driver, too.
func TestDriverIsUnderADecorator(t *testing.T) {
	m := newStore(t)
	r := registry.New(m.Driver(), registry.Options{})
	defer r.Close()
	register(t, m, instance("a"))
	wantThere(t, r, true)
	m.Fail(registry.ErrDenied)
	if _, err := r.Services(t.Context()); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Services returns %v", err)
	}
	if r.String() != "memory" {
		t.Errorf("the driver calls itself %q", r)
	}
}

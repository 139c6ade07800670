package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// calls makes each kind of call of r, for a second, and returns the errors.
func calls(t *testing.T, r *memory.Registry, g registry.Registration) map[string]error {
	second := func() context.Context { return watchtest.Within(t, time.Second) }
	errs := map[string]error{}
	_, errs["Register"] = r.Register(second(), instance("b"))
	_, errs["Lookup"] = r.Lookup(second(), registry.Query{Service: "another"})
	_, errs["Services"] = r.Services(second())
	errs["Update"] = g.Update(second(), instance("a"))
	errs["Deregister"] = g.Deregister(second())
	return errs
}

func TestFail_FailsEachCall(t *testing.T) {
	cause := errors.New("the cable is cut")
	for name, c := range map[string]struct{ fail, want error }{
		"an error":                           {cause, registry.ErrUnavailable},
		"an error, which can be told apart":  {cause, cause},
		"a kind of failure stays as it is":   {registry.ErrDenied, registry.ErrDenied},
		"also if another is wrapped in":      {fmt.Errorf("%w: %w", registry.ErrDenied, cause), cause},
		"an outage of its own making is one": {registry.ErrUnavailable, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				other := watchtest.NewMemory(t, registry.Options{})
				r := watchtest.NewMemoryClient(t, other)
				g := watchtest.Register(t, r, instance("a"))
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

func TestFail_EndsCallsInProgress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := watchtest.NewMemory(t, registry.Options{})
		r := watchtest.NewMemoryClient(t, other)
		g := watchtest.Register(t, r, instance("a"))
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

func TestFail_NilHeals(t *testing.T) {
	r := watchtest.NewMemory(t, registry.Options{})
	r.Fail(errors.New("the cable is cut"))
	r.Fail(nil)
	wantThere(t, r, false)
}

func TestHang_BlocksEachCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := watchtest.NewMemory(t, registry.Options{})
		r := watchtest.NewMemoryClient(t, other)
		g := watchtest.Register(t, r, instance("a"))
		r.Hang()
		for call, err := range calls(t, r, g) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s returns %v, want the context's error", call, err)
			}
		}
		wantThere(t, other, true)
	})
}

func TestHang_CutsOffCallsInProgress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := watchtest.NewMemory(t, registry.Options{})
		r := watchtest.NewMemoryClient(t, other)
		g := watchtest.Register(t, r, instance("a"))
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		r.Hang()
		watchtest.Register(t, other, instance("b"))
		time.Sleep(memory.DefaultTTL + time.Second)
		synctest.Wait()
		if got := w.All(); len(got) != 1 {
			t.Errorf("cut off, the watch yielded %v, want the first pair alone", got)
		}
		if err := g.Err(); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("cut off for longer than its TTL, Err says %v", err)
		}
		wantThere(t, other, false)
		r.Heal()
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		wantThere(t, other, true)
		if got := w.All(); len(got[len(got)-1].Set) != 2 {
			t.Errorf("healed, the watch yielded %v, want two instances at last", got)
		}
	})
}

func TestDropWatches_FailsOwnWatchesOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		other := watchtest.NewMemoryClient(t, r)
		watchtest.Register(t, r, instance("a"))
		mine, others := watchtest.Watch(t, r, web), watchtest.Watch(t, other, web)
		synctest.Wait()
		r.DropWatches()
		synctest.Wait()
		if got := mine.All(); len(got) != 2 || len(got[1].Set) != 1 || !errors.Is(got[1].Err, registry.ErrUnavailable) {
			t.Errorf("dropped, the watch has yielded %v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := mine.All(); len(got) != 3 || len(got[2].Set) != 1 || got[2].Err != nil {
			t.Errorf("it is not dropped again, and the watch has yielded %v", got)
		}
		if got := others.All(); len(got) != 1 {
			t.Errorf("the watch of another client has yielded %v", got)
		}
	})
}

func TestExpire_RemovesEntry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		if r.Expire("web", "a") {
			t.Error("there is nothing to expire")
		}
		g := watchtest.Register(t, r, instance("a"))
		other := watchtest.NewMemoryClient(t, r)
		if !other.Expire("web", "a") {
			t.Error("it was there to expire")
		}
		wantThere(t, r, false)
		time.Sleep(registry.DefaultBackoffMax)
		wantThere(t, r, true) // its owner has registered it again
		if err := g.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestSetStatus_LastsUntilRegistered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		if r.SetStatus("web", "a", registry.Critical) {
			t.Error("there is nothing to set a status of")
		}
		g := watchtest.Register(t, r, instance("a"))
		other := watchtest.NewMemoryClient(t, r)
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

func TestCalls_CountsCallsOfOneClient(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		other := watchtest.NewMemoryClient(t, r)
		want := func(what string, want int) {
			t.Helper()
			if got := r.Calls(); got != want {
				t.Errorf("after %s, Calls returns %d, want %d", what, got, want)
			}
		}
		want("nothing", 0)
		g := watchtest.Register(t, r, instance("a"))
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
func TestDriver_CanBeDecorated(t *testing.T) {
	m := watchtest.NewMemory(t, registry.Options{})
	r := watchtest.NewRegistry(t, m.Driver(), registry.Options{})
	watchtest.Register(t, m, instance("a"))
	wantThere(t, r, true)
	m.Fail(registry.ErrDenied)
	if _, err := r.Services(t.Context()); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Services returns %v", err)
	}
	if r.String() != "memory" {
		t.Errorf("the driver calls itself %q", r)
	}
}

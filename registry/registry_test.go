package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLookup_AnswersWithAndWithoutWatch(t *testing.T) {
	t.Run("is served by a live watch, and by its last good set in an outage", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			r := newRegistry(t, d, registry.Options{})
			watchtest.Watch(t, r, web)
			synctest.Wait()
			before := d.count(&d.nexts)
			for range 1000 {
				set, err := r.Lookup(t.Context(), web)
				if err != nil {
					t.Fatal(err)
				}
				watchtest.WantIDs(t, set, "a")
			}
			if n := d.count(&d.nexts); n != before {
				t.Errorf("a thousand lookups beside a watch made %d reads", n-before)
			}
			d.fail(errors.New("down"))
			time.Sleep(time.Second)
			set, err := r.Lookup(t.Context(), web)
			watchtest.WantIDs(t, set, "a")
			if !errors.Is(err, registry.ErrUnavailable) || strings.Count(err.Error(), "rollcall:") != 1 {
				t.Errorf("in an outage it says %v", err)
			}
		})
	})
	t.Run("waits for the first answer of a watch until its context ends", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.shut()
			r := newRegistry(t, d, registry.Options{})
			watchtest.Watch(t, r, web)
			synctest.Wait()
			if _, err := r.Lookup(watchtest.Within(t, time.Minute), web); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it says %v", err)
			}
		})
	})
}

func TestServices_AreSorted(t *testing.T) {
	d := newFake()
	r := newRegistry(t, d, registry.Options{})
	if got, err := r.Services(t.Context()); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Services() = %v, %v", got, err)
	}
	d.fail(errors.New("down"))
	if _, err := r.Services(t.Context()); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("in an outage it says %v", err)
	}
}

func TestClose_EndsEverything(t *testing.T) {
	for name, keep := range map[string]bool{"deregisters": false, "with KeepOnClose": true} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { testClose(t, keep) })
		})
	}
}

func testClose(t *testing.T, keep bool) {
	d := newFake()
	r := newRegistry(t, d, registry.Options{KeepOnClose: keep})
	g := watchtest.Register(t, r, instance("a"))
	watchtest.Watch(t, r, web)
	synctest.Wait()
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if d.has("web", "a") != keep {
		t.Errorf("the entry is there: %v, want %v", d.has("web", "a"), keep)
	}
	if d.closed != 1 {
		t.Errorf("the driver was closed %d times, want once", d.closed)
	}
	errs := map[string]error{"Err": g.Err(), "Update": g.Update(t.Context(), instance("a"))}
	_, errs["Register"] = r.Register(t.Context(), instance("b"))
	_, errs["Lookup"] = r.Lookup(t.Context(), web)
	_, errs["Services"] = r.Services(t.Context())
	for _, err := range r.Watch(t.Context(), web) {
		errs["Watch"] = err
	}
	if keep {
		errs["Deregister"] = g.Deregister(t.Context())
	} else if err := g.Deregister(t.Context()); err != nil {
		t.Errorf("after Close Deregister returns %v, though the entry is gone", err)
	}
	for call, err := range errs {
		var e *registry.Error
		if !errors.Is(err, registry.ErrClosed) || !errors.As(err, &e) {
			t.Errorf("after Close %s says %v", call, err)
		}
	}
	if len(errs) < 6 {
		t.Errorf("only %d calls answered", len(errs))
	}
}

func TestNew_NamesInvalidOptions(t *testing.T) {
	o := registry.Options{Burst: -1, Spacing: -time.Second}
	err := o.Validate()
	for _, want := range []string{"Options.Burst: -1", "Options.Spacing: -1s"} {
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err := (registry.Options{BackoffMin: time.Minute}).Validate(); err == nil || !strings.Contains(err.Error(), "BackoffMin: 1m0s is above BackoffMax, 1.4s") {
		t.Errorf("Validate() = %v", err)
	}
	if err := (registry.Options{Linger: -1}).Validate(); err != nil {
		t.Error(err)
	}
	d := newFake()
	if r, err := registry.New(d, o); r != nil || !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "Options.Burst: -1") {
		t.Errorf("New returns %v, %v", r, err)
	}
	if d.closed != 0 {
		t.Error("New closed a driver that it refused to take over")
	}
}

// A driver may hand the same slice to many, and what readers get is their own.
func TestLookup_SlicesAreTheCallersOwn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b := instance("a"), instance("b")
		d := sharing{newFake(), []*registry.Instance{&a, &b}}
		r := newRegistry(t, d, registry.Options{Linger: -1})
		for range 2 {
			set, err := r.Lookup(t.Context(), web)
			if err != nil {
				t.Fatal(err)
			}
			watchtest.WantIDs(t, set, "a", "b")
			clear(set)
		}
		for range 2 {
			for set := range r.Watch(t.Context(), web) {
				watchtest.WantIDs(t, set, "a", "b")
				clear(set)
				break
			}
		}
	})
}

type sharing struct {
	*fake
	set []*registry.Instance
}

type sharedSource struct{ d sharing }

func (d sharing) Watch(registry.Query) registry.Source { return sharedSource{d} }

func (s sharedSource) Next(context.Context) (registry.Set, error) {
	return registry.Set{Instances: s.d.set}, nil
}
func (s sharedSource) Close() error { return nil }

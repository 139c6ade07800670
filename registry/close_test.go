package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// closes calls Close and fails unless it takes at least and at most that long.
func closes(t *testing.T, r *registry.Registry, least, most time.Duration) error {
	t.Helper()
	start := time.Now()
	err := r.Close()
	if took := time.Since(start); took < least || took > most {
		t.Errorf("Close took %v, want %v to %v", took, least, most)
	}
	return err
}

func TestClose_DeregistersInParallelBeforeWatchesEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &slow{fake: newFake(), release: time.Second}
		r := newRegistry(t, d, registry.Options{})
		for i := range 50 {
			watchtest.Register(t, r, instance(fmt.Sprint(i)))
		}
		d.release = 2 * time.Second
		watchtest.Register(t, r, instance("last"))
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		if err := closes(t, r, 2*time.Second, 2*time.Second); err != nil {
			t.Error(err)
		}
		<-w.Done()
		all := w.All()
		if n := len(all); n < 2 || !errors.Is(all[n-1].Err, registry.ErrClosed) || all[n-2].Err != nil {
			t.Fatalf("the watch has yielded %v", all)
		}
		if !slices.ContainsFunc(all, func(p watchtest.Pair) bool {
			return p.Err == nil && slices.Equal(watchtest.IDs(p.Set), []string{"last"})
		}) {
			t.Error("the watch did not go on while the others left")
		}
	})
}

// slow takes its time for some calls.
type slow struct {
	*fake
	register, release time.Duration
}

type slowLease struct {
	registry.Lease
	release time.Duration
}

func (d *slow) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	time.Sleep(d.register) // heeds no context, as a request that the store has received already
	l, err := d.fake.Register(context.WithoutCancel(ctx), in, prev)
	if err != nil {
		return nil, err
	}
	return slowLease{l, d.release}, nil
}

func (l slowLease) Release(ctx context.Context) error {
	time.Sleep(l.release)
	return l.Lease.Release(ctx)
}

func TestClose_RetriesUntilCloseTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, outage time.Duration
		most            time.Duration
		left            bool
	}{
		"the registry comes back":      {0, 3 * time.Second, 3*time.Second + registry.DefaultBackoffMax, false},
		"it does not, by default":      {0, time.Hour, registry.DefaultCloseTimeout, true},
		"it does not, in 100 ms":       {100 * time.Millisecond, time.Hour, 100 * time.Millisecond, true},
		"it does, after a long outage": {time.Minute, 50 * time.Second, 50*time.Second + registry.DefaultBackoffMax, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				r := watchtest.NewRegistry(t, d, registry.Options{CloseTimeout: c.timeout})
				watchtest.Register(t, r, instance("a"))
				down := errors.New("down")
				d.fail(down)
				time.AfterFunc(c.outage, func() { d.fail(nil) })
				synctest.Wait()
				err := closes(t, r, 0, c.most)
				if d.has("web", "a") != c.left {
					t.Errorf("the entry is there: %v, want %v", d.has("web", "a"), c.left)
				}
				if !c.left {
					if err != nil {
						t.Errorf("Close returns %v", err)
					}
					return
				}
				var e *registry.Error
				if !errors.As(err, &e) || e.Op != "close" || !errors.Is(err, down) || !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "web/a") {
					t.Errorf("Close returns %v", err)
				}
				if again := r.Close(); again != err {
					t.Errorf("a second Close returns %v", again)
				}
			})
		})
	}
}

func TestClose_ErrorNamesAFewOfMany(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := watchtest.NewRegistry(t, d, registry.Options{})
		for i := range 50 {
			watchtest.Register(t, r, instance(fmt.Sprintf("a%02d", i)))
		}
		d.fail(registry.ErrDenied)
		err := closes(t, r, 0, 0) // a denial is final
		if !errors.Is(err, registry.ErrDenied) || len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
			t.Errorf("Close returns %v", err)
		}
		for _, want := range []string{"50 of 50 registrations", "web/a00", "and 45 more"} {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("Close returns %v, without %q", err, want)
			}
		}
	})
}

func TestClose_WaitsForAWriteInFlightAndReleasesIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		watchtest.Register(t, r, instance("a"))
		open := d.shut()
		d.lose("web", "a")
		time.Sleep(time.Second) // the keeper is within Register
		time.AfterFunc(time.Second, open)
		if err := closes(t, r, time.Second, time.Second); err != nil {
			t.Error(err)
		}
		if d.count(&d.registers) != 2 || d.has("web", "a") {
			t.Errorf("after %d calls of Register the entry is there: %v", d.count(&d.registers), d.has("web", "a"))
		}
	})
}

func TestClose_EndsARegisterThatSucceedsMeanwhile(t *testing.T) {
	for name, keep := range map[string]bool{"by default": false, "with KeepOnClose": true} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &slow{fake: newFake(), register: 2 * time.Second}
				r := newRegistry(t, d, registry.Options{KeepOnClose: keep})
				result := make(chan error, 1)
				go func() {
					_, err := r.Register(context.Background(), instance("a"))
					result <- err
				}()
				time.Sleep(time.Second)
				closes(t, r, time.Second, time.Second)
				if err := <-result; !errors.Is(err, registry.ErrClosed) {
					t.Errorf("Register returns %v", err)
				}
				if d.count(&d.registers) != 1 || d.has("web", "a") {
					t.Errorf("after %d calls of Register there is an entry without a handle: %v", d.count(&d.registers), d.has("web", "a"))
				}
			})
		})
	}
}

func TestClose_BesideDeregister(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &slow{fake: newFake(), release: 2 * time.Second}
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / 2)
				if i == 1 {
					if err := r.Close(); err != nil {
						t.Errorf("Close returns %v", err)
					}
				} else if err := g.Deregister(context.Background()); err != nil {
					t.Errorf("Deregister returns %v", err)
				}
			})
		}
		all.Wait()
		if d.has("web", "a") || d.count(&d.releases) != 1 {
			t.Errorf("after %d releases the entry is there: %v", d.count(&d.releases), d.has("web", "a"))
		}
	})
}

func TestClose_EndsAnUpdateInProgress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{CloseTimeout: time.Minute})
		g := watchtest.Register(t, r, instance("a"))
		open := d.shut()
		result := make(chan error, 1)
		go func() { result <- g.Update(context.Background(), version("2")) }()
		synctest.Wait()
		go r.Close()
		synctest.Wait()
		select {
		case err := <-result:
			if !errors.Is(err, registry.ErrClosed) {
				t.Errorf("Update returns %v", err)
			}
		default:
			t.Error("Update goes on although Close was called")
		}
		open()
		if err := r.Close(); err != nil || d.has("web", "a") {
			t.Errorf("Close returns %v, the entry is there: %v", err, d.has("web", "a"))
		}
	})
}

func TestClose_TriesAgainWhatADeregisterGaveUpOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		d.fail(errors.New("down"))
		if err := g.Deregister(watchtest.Within(t, time.Second)); err == nil || !d.has("web", "a") {
			t.Fatalf("Deregister returns %v", err)
		}
		d.fail(nil)
		if err := r.Close(); err != nil || d.has("web", "a") {
			t.Errorf("Close returns %v, the entry is there: %v", err, d.has("web", "a"))
		}
	})
}

// unheeding is a driver whose calls do not heed their contexts: each takes a minute.
type unheeding struct{ *fake }

type unheedingLease struct{ registry.Lease }

type unheedingSource struct{ registry.Source }

func (d unheeding) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return unheedingLease{l}, nil
}

func (d unheeding) Watch(q registry.Query) registry.Source { return unheedingSource{d.fake.Watch(q)} }

func (d unheeding) Services(ctx context.Context) ([]string, error) {
	time.Sleep(time.Minute)
	return d.fake.Services(ctx)
}

func (l unheedingLease) Update(ctx context.Context, in *registry.Instance) error {
	time.Sleep(time.Minute)
	return l.Lease.Update(ctx, in)
}

func (l unheedingLease) Release(ctx context.Context) error {
	time.Sleep(time.Minute)
	return l.Lease.Release(ctx)
}

func (s unheedingSource) Next(ctx context.Context) (registry.Set, error) {
	time.Sleep(time.Minute)
	return s.Source.Next(ctx)
}

func TestClose_ReturnsDespiteAnyCallInFlight(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		call    func(r *registry.Registry, g registry.Registration)
		timeout time.Duration // of what is deregistered, zero if nothing is
	}{
		"services":        {func(r *registry.Registry, _ registry.Registration) { r.Services(ctx) }, 0},
		"a watch":         {func(r *registry.Registry, _ registry.Registration) { watchAll(r) }, 0},
		"an update":       {func(_ *registry.Registry, g registry.Registration) { g.Update(ctx, version("2")) }, registry.DefaultCloseTimeout},
		"a deregister":    {func(_ *registry.Registry, g registry.Registration) { g.Deregister(ctx) }, registry.DefaultCloseTimeout},
		"Close's release": {func(_ *registry.Registry, g registry.Registration) { g.Instance() }, registry.DefaultCloseTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := unheeding{newFake()}
				r := watchtest.NewRegistry(t, d, registry.Options{})
				var g registry.Registration
				if c.timeout > 0 {
					g = watchtest.Register(t, r, instance("a"))
				}
				go c.call(r, g)
				synctest.Wait()
				if err := closes(t, r, 0, c.timeout+time.Second); (c.timeout > 0) != errors.Is(err, registry.ErrUnavailable) {
					t.Errorf("Close returns %v, though a call of the driver goes on", err)
				}
				closed := func() int {
					d.mu.Lock()
					defer d.mu.Unlock()
					return d.closed
				}
				if closed() != 0 {
					t.Error("the driver was closed during a call")
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if closed() != 1 {
					t.Error("the driver was not closed after the call had ended")
				}
			})
		})
	}
}

func watchAll(r *registry.Registry) {
	for range r.Watch(context.Background(), web) {
	}
}

func TestOptions_RefusesANegativeCloseTimeout(t *testing.T) {
	if err := (registry.Options{CloseTimeout: -1}).Validate(); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "CloseTimeout") {
		t.Errorf("Validate returns %v", err)
	}
}

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// version returns what an Update is given.
func version(v string) registry.Instance {
	return registry.Instance{Address: "10.0.0.1:80", Version: v}
}

// newStore returns a client of a store in memory, and another client of that store.
func newStore(t *testing.T) (reg, other *memory.Registry) {
	reg = watchtest.NewMemory(t, registry.Options{})
	return reg, watchtest.NewMemoryClient(t, reg)
}

// wantRegistered fails unless the store has web/a with that version, and g agrees.
func wantRegistered(t *testing.T, d registry.Discovery, g registry.Registration, want string) {
	t.Helper()
	set, err := d.Lookup(t.Context(), web)
	if err != nil || len(set) != 1 || set[0].Version != want {
		t.Errorf("the store has %v (error: %v), want version %q", set, err, want)
	}
	if got := g.Instance().Version; got != want {
		t.Errorf("Instance has version %q, want %q", got, want)
	}
	if err := g.Err(); err != nil {
		t.Errorf("Err returns %v", err)
	}
}

func wantCutOff(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update returns %v, want the error of its context", err)
	}
}

func TestUpdate_IsNotLostBehindAKeeperThatHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg, other := newStore(t)
		g := watchtest.Register(t, reg, instance("a"))
		reg.Fail(errors.New("down"))
		synctest.Wait()
		reg.Hang()
		time.Sleep(registry.DefaultBackoffMax) // the keeper's attempt hangs
		wantCutOff(t, g.Update(watchtest.Within(t, 3*time.Second), version("new")))
		if got := g.Instance().Version; got != "new" {
			t.Errorf("Instance has version %q", got)
		}
		reg.Heal()
		time.Sleep(registry.DefaultBackoffMax)
		wantRegistered(t, other, g, "new")
	})
}

func TestUpdate_IsNotLostBehindAnUpdateThatHangs(t *testing.T) {
	for name, limit := range map[string]time.Duration{"and gives up first": 2 * time.Second, "and gives up later": 10 * time.Second, "and waits": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				reg, other := newStore(t)
				g := watchtest.Register(t, reg, instance("a"))
				reg.Hang()
				earlier := make(chan error, 1)
				go func() { earlier <- g.Update(watchtest.Within(t, limit), version("earlier")) }()
				synctest.Wait()
				wantCutOff(t, g.Update(watchtest.Within(t, 3*time.Second), version("new")))
				if got := g.Instance().Version; got != "new" {
					t.Errorf("Instance has version %q", got)
				}
				time.Sleep(4 * time.Second)
				reg.Heal()
				time.Sleep(registry.DefaultBackoffMax)
				wantRegistered(t, other, g, "new")
				err := <-earlier
				if limit == time.Hour && err != nil {
					t.Errorf("the earlier Update returns %v, though newer content is registered", err)
				}
				time.Sleep(time.Hour)
				wantRegistered(t, other, g, "new")
			})
		})
	}
}

func TestUpdate_NewestOfSeveralWins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg, other := newStore(t)
		g := watchtest.Register(t, reg, instance("a"))
		reg.Hang()
		var all sync.WaitGroup
		for i := range 40 { // more than are kept
			all.Go(func() {
				wantCutOff(t, g.Update(watchtest.Within(t, time.Duration(1+i%3)*time.Second), version(fmt.Sprint(i))))
			})
			synctest.Wait()
		}
		all.Wait()
		reg.Heal()
		time.Sleep(registry.DefaultBackoffMax)
		wantRegistered(t, other, g, "39")
	})
}

func TestUpdate_RacingWithAnotherLeavesWhatInstanceReturns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg, other := newStore(t)
		g := watchtest.Register(t, reg, instance("a"))
		for round := range 20 {
			reg.Hang()
			for i := range 2 {
				go g.Update(watchtest.Within(t, time.Second), version(fmt.Sprint(round, i)))
			}
			if round%2 == 0 {
				time.Sleep(2 * time.Second)
			}
			reg.Heal()
			time.Sleep(registry.DefaultBackoffMax)
			wantRegistered(t, other, g, g.Instance().Version)
			if got := g.Instance().Version; !strings.HasPrefix(got, fmt.Sprint(round, " ")) {
				t.Errorf("in round %d Instance has version %q", round, got)
			}
		}
	})
}

func TestUpdate_DoesNotOutliveDeregister(t *testing.T) {
	for name, limit := range map[string]time.Duration{"of an Update that gave up": time.Second, "of an Update in flight": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				reg, other := newStore(t)
				g := watchtest.Register(t, reg, instance("a"))
				reg.Hang()
				go g.Update(watchtest.Within(t, limit), version("new"))
				time.Sleep(2 * time.Second)
				if err := g.Deregister(watchtest.Within(t, 3*time.Second)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Deregister returns %v", err)
				}
				if set, err := other.Lookup(t.Context(), web); err != nil || len(set) != 1 {
					t.Fatalf("the entry has gone already (%v, %v): this test proves nothing", set, err)
				}
				reg.Heal()
				synctest.Wait()
				for range 2 {
					if set, err := other.Lookup(t.Context(), web); err != nil || len(set) != 0 {
						t.Errorf("after Deregister the store has %v (error: %v)", set, err)
					}
					time.Sleep(time.Hour)
				}
			})
		})
	}
}

// picky refuses some versions, each in a way of its own.
type picky struct {
	*fake
	refuses map[string]error // by version
}

type pickyLease struct {
	registry.Lease
	d *picky
}

func (d *picky) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return pickyLease{l, d}, nil
}

func (l pickyLease) Update(ctx context.Context, in *registry.Instance) error {
	if err := l.d.enter(ctx, &l.d.updates); err != nil {
		return err
	}
	if err := l.d.refuses[in.Version]; err != nil {
		return err
	}
	return l.Lease.Update(ctx, in)
}

func (d *fake) version(t *testing.T) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.entries["web"]["a"]
	if in == nil {
		t.Fatal("the entry is gone")
	}
	return in.Version
}

func TestUpdate_RefusedLeavesWhatIsWantedBesides(t *testing.T) {
	refusals := map[string]error{
		"invalid": fmt.Errorf("%w: too long", registry.ErrInvalid), "denied": fmt.Errorf("%w: token", registry.ErrDenied),
	}
	for _, c := range []struct {
		name    string
		updates []string // in their order, each begun while the one before hangs
		want    string
	}{
		{"a newer one", []string{"invalid", "2"}, "2"},
		{"a newer one, of a denied one", []string{"denied", "2"}, "2"},
		{"an older one", []string{"2", "invalid"}, "2"},
		{"an older one, of a denied one", []string{"2", "denied"}, "2"},
		{"an older one, of two", []string{"2", "invalid", "denied"}, "2"},
		{"the one between two", []string{"invalid", "2", "denied"}, "2"},
		{"nothing but the old content", []string{"invalid", "denied"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &picky{newFake(), refusals}
				r := newRegistry(t, d, registry.Options{})
				g := watchtest.Register(t, r, instance("a"))
				open := d.shut()
				errs := map[string]error{}
				var mu sync.Mutex
				for _, v := range c.updates {
					go func() {
						err := g.Update(context.Background(), version(v))
						mu.Lock()
						defer mu.Unlock()
						errs[v] = err
					}()
					synctest.Wait()
				}
				open()
				time.Sleep(registry.DefaultBackoffMax)
				if got := d.version(t); got != c.want || g.Instance().Version != c.want || g.Err() != nil {
					t.Errorf("the store has version %q, Instance %q, want %q; Err returns %v", got, g.Instance().Version, c.want, g.Err())
				}
				mu.Lock()
				defer mu.Unlock()
				for _, v := range c.updates {
					if err, ok := errs[v]; !ok || (refusals[v] == nil) != (err == nil) || err != nil && !errors.Is(err, errors.Unwrap(refusals[v])) {
						t.Errorf("Update to %q has ended: %v, with %v", v, ok, err)
					}
				}
			})
		})
	}
}

func TestUpdate_RefusedAfterItGaveUpLeavesTheOneBefore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &picky{newFake(), map[string]error{"bad": fmt.Errorf("%w: too long", registry.ErrInvalid)}}
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		g := watchtest.Register(t, r, instance("a"))
		open := d.shut()
		for _, v := range []string{"2", "bad"} {
			wantCutOff(t, g.Update(watchtest.Within(t, time.Second), version(v)))
		}
		open()
		time.Sleep(registry.DefaultBackoffMax)
		if got := d.version(t); got != "2" || g.Instance().Version != "2" || g.Err() != nil {
			t.Errorf("the store has version %q, Instance %q; Err returns %v", got, g.Instance().Version, g.Err())
		}
		if n := log.with("update refused", "too long"); n != 1 {
			t.Errorf("the refusal, which no Update could return, is logged %d times", n)
		}
	})
}

// A token may be valid again later, so a denial does not drop the content of an Update that has given up.
func TestUpdate_DeniedAfterItGaveUpIsRetried(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, &picky{fake: d}, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		open := d.shut()
		wantCutOff(t, g.Update(watchtest.Within(t, time.Second), version("2")))
		d.mu.Lock()
		d.err = fmt.Errorf("%w: token expired", registry.ErrDenied) // Renew and Wait do not notice
		d.mu.Unlock()
		open()
		time.Sleep(time.Minute)
		if err := g.Err(); !errors.Is(err, registry.ErrDenied) || g.Instance().Version != "2" {
			t.Errorf("Err returns %v, Instance %+v", err, g.Instance())
		}
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		time.Sleep(registry.DefaultBackoffMax)
		if got := d.version(t); got != "2" || g.Err() != nil {
			t.Errorf("the store has version %q; Err returns %v", got, g.Err())
		}
	})
}

// readOnly is a store that takes no content for a while, though it still renews what it has.
type readOnly struct {
	*fake
	mu     sync.Mutex
	denies bool
	kept   int // how often Wait was called
}

type readOnlyLease struct {
	registry.Lease
	d *readOnly
}

func (d *readOnly) set(denies bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denies = denies
}

func (d *readOnly) check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.denies {
		return fmt.Errorf("%w: the database has no space", registry.ErrUnavailable)
	}
	return nil
}

func (d *readOnly) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return readOnlyLease{l, d}, nil
}

func (l readOnlyLease) Update(ctx context.Context, in *registry.Instance) error {
	if err := l.d.check(); err != nil {
		return err
	}
	return l.Lease.Update(ctx, in)
}

// Wait loses the entry when it ends, as a store does if the lease is not renewed.
func (l readOnlyLease) Wait(ctx context.Context) error {
	l.d.mu.Lock()
	l.d.kept++
	l.d.mu.Unlock()
	err := l.Lease.Wait(ctx)
	l.d.lose("web", "a")
	return err
}

func TestUpdate_ThatGivesUpKeepsTheOldContent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &readOnly{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		w := watchtest.Watch(t, r, web)
		g := watchtest.Register(t, r, instance("a"))
		synctest.Wait()
		d.set(true)
		err := g.Update(watchtest.Within(t, 10*time.Second), version("new"))
		wantCutOff(t, err)
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("Update returns %v, which does not say why", err)
		}
		time.Sleep(time.Hour)
		var e *registry.Error
		if err := g.Err(); !errors.Is(err, registry.ErrUnavailable) || !errors.As(err, &e) || e.Op != "update" || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Err returns %v", err)
		}
		if got := d.version(t); got != "" || g.Instance().Version != "new" {
			t.Errorf("the store has version %q, Instance %q", got, g.Instance().Version)
		}
		d.set(false)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if got := d.version(t); got != "new" || g.Err() != nil || d.kept != 1 {
			t.Errorf("the store has version %q; Err returns %v; Wait was called %d times", got, g.Err(), d.kept)
		}
		for _, p := range w.All()[1:] {
			if len(p.Set) != 1 || p.Err != nil {
				t.Errorf("a watch has seen %v, %v", p.Set, p.Err)
			}
		}
	})
}

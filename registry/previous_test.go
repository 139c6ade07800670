package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// linked is a driver whose leases have numbers. It notes which lease each Register was given, and which ones were released.
type linked struct {
	*fake
	linkedMu sync.Mutex
	fails    []outcome // of the next calls of Register
	calls    []string  // "register PREV -> LEASE", "release LEASE"
	leases   int
	stuck    error // what Release returns
}

// outcome is how a Register fails, and whether it returns a lease all the same.
type outcome struct {
	err   error
	lease bool
}

type linkedLease struct {
	*fakeLease
	d      *linked
	number int
}

func number(l registry.Lease) string {
	if l == nil {
		return "nil"
	}
	return fmt.Sprint(l.(*linkedLease).number)
}

func (d *linked) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	d.linkedMu.Lock()
	defer d.linkedMu.Unlock()
	var next outcome
	if len(d.fails) > 0 {
		next, d.fails = d.fails[0], d.fails[1:]
	}
	if next.err != nil && !next.lease {
		d.calls = append(d.calls, "register "+number(prev)+" fails")
		return nil, next.err
	}
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	d.leases++
	lease := &linkedLease{l.(*fakeLease), d, d.leases}
	d.calls = append(d.calls, "register "+number(prev)+" returns "+number(lease))
	return lease, next.err
}

func (l *linkedLease) Release(ctx context.Context) error {
	l.d.linkedMu.Lock()
	defer l.d.linkedMu.Unlock()
	if l.d.stuck != nil {
		return l.d.stuck
	}
	l.d.calls = append(l.d.calls, "release "+number(l))
	return l.fakeLease.Release(ctx)
}

func (d *linked) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	d.linkedMu.Lock()
	defer d.linkedMu.Unlock()
	if fmt.Sprint(d.calls) != fmt.Sprint(want) {
		t.Errorf("the calls are %q, want %q", d.calls, want)
	}
	d.calls = nil
}

// unavailable is n attempts that fail.
func unavailable(n int, lease bool) (all []outcome) {
	for range n {
		all = append(all, outcome{registry.ErrUnavailable, lease})
	}
	return all
}

func testLinked(t *testing.T, test func(t *testing.T, d *linked, r *registry.Registry)) {
	bubble.Test(t, func(t *testing.T) {
		d := &linked{fake: newFake()}
		test(t, d, newRegistry(t, d, registry.Options{}))
	})
}

func TestRegister_HandsThePreviousLeaseToTheNextAttempt(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails = []outcome{{registry.ErrUnavailable, false}, {registry.ErrUnavailable, true}, {registry.ErrUnavailable, false}}
		g := watchtest.Register(t, r, instance("a"))
		d.wantCalls(t, "register nil fails", "register nil returns 1", "register 1 fails", "register 1 returns 2")
		d.fails = []outcome{{registry.ErrUnavailable, true}}
		d.lose("web", "a")
		time.Sleep(2 * registry.DefaultBackoffMax)
		d.wantCalls(t, "register 2 returns 3", "register 3 returns 4")
		if err := g.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		d.wantCalls(t, "release 4")
	})
}

func TestRegister_ThatGivesUpReleasesWhatItMayHaveLeft(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails = unavailable(100, true)
		if _, err := r.Register(watchtest.Within(t, 10*time.Millisecond), instance("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Register returns %v", err)
		}
		synctest.Wait()
		d.wantCalls(t, "register nil returns 1", "release 1")
		if d.has("web", "a") {
			t.Error("the entry is there")
		}
		d.fails = []outcome{{registry.ErrDenied, true}}
		if _, err := r.Register(t.Context(), instance("a")); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("Register returns %v", err)
		}
		synctest.Wait()
		d.wantCalls(t, "register nil returns 2", "release 2")
	})
}

func TestRegister_TriesAFailedReleaseAgainForAWhile(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails, d.stuck = []outcome{{registry.ErrDenied, true}}, registry.ErrUnavailable
		r.Register(t.Context(), instance("a"))
		time.Sleep(3 * time.Second)
		d.linkedMu.Lock()
		d.stuck = nil
		d.linkedMu.Unlock()
		time.Sleep(registry.DefaultBackoffMax)
		d.wantCalls(t, "register nil returns 1", "release 1")
	})
}

func TestRegister_GoesOnWithWhatAnEarlierOneLeft(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails, d.stuck = unavailable(1, true), registry.ErrUnavailable
		if _, err := r.Register(watchtest.Within(t, 10*time.Millisecond), instance("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Register returns %v", err)
		}
		synctest.Wait() // until a first release has failed
		d.linkedMu.Lock()
		d.stuck = nil
		d.linkedMu.Unlock()
		watchtest.Register(t, r, instance("a"))
		watchtest.Register(t, r, instance("b"))
		watchtest.Register(t, r, instance("a")) // a second registration, as of another process
		time.Sleep(time.Minute)
		d.wantCalls(t, "register nil returns 1", "register 1 returns 2", "register nil returns 3", "register nil returns 4")
	})
}

func TestRegister_ReleasesWhatItMayHaveLeftIfCloseEndsIt(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails = unavailable(100, true)
		time.AfterFunc(10*time.Millisecond, func() { r.Close() })
		if _, err := r.Register(t.Context(), instance("a")); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Register returns %v", err)
		}
		d.wantCalls(t, "register nil returns 1", "release 1")
	})
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		d.fails, d.stuck = []outcome{{registry.ErrDenied, true}}, registry.ErrUnavailable
		r.Register(t.Context(), instance("a"))
		time.AfterFunc(time.Second, func() {
			d.linkedMu.Lock()
			defer d.linkedMu.Unlock()
			d.stuck = nil
		})
		if err := r.Close(); err != nil { // while the release is tried again
			t.Error(err)
		}
		d.wantCalls(t, "register nil returns 1", "release 1")
	})
}

func TestDeregister_ReleasesTheLeaseOfAnAttemptThatFailed(t *testing.T) {
	testLinked(t, func(t *testing.T, d *linked, r *registry.Registry) {
		g := watchtest.Register(t, r, instance("a"))
		d.fails = unavailable(1, true)
		d.lose("web", "a")
		time.Sleep(registry.DefaultBackoffMin)
		if err := g.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		d.wantCalls(t, "register nil returns 1", "register 1 returns 2", "release 2")
	})
}

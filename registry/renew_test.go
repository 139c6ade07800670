package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// renewing is a fake whose leases have a TTL. The test decides what a renewal does.
type renewing struct {
	*fake
	ttl time.Duration

	renewMu  sync.Mutex
	renew    func(ctx context.Context) error // nil: the renewal succeeds
	renewals []time.Time
	causes   []error // with which the contexts of Wait ended
	down     error   // what Register returns
}

type renewingLease struct {
	registry.Lease
	d *renewing
}

func (d *renewing) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	d.renewMu.Lock()
	err := d.down
	d.renewMu.Unlock()
	if err != nil {
		return nil, err
	}
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return renewingLease{l, d}, nil
}

func (l renewingLease) TTL() time.Duration { return l.d.ttl }

func (l renewingLease) Renew(ctx context.Context) error {
	l.d.renewMu.Lock()
	l.d.renewals = append(l.d.renewals, time.Now())
	renew := l.d.renew
	l.d.renewMu.Unlock()
	if renew == nil {
		return nil
	}
	return renew(ctx)
}

func (l renewingLease) Wait(ctx context.Context) error {
	err := l.Lease.Wait(ctx)
	l.d.renewMu.Lock()
	defer l.d.renewMu.Unlock()
	l.d.causes = append(l.d.causes, context.Cause(ctx))
	return err
}

// set decides what Renew and Register do from now on.
func (d *renewing) set(renew func(ctx context.Context) error, down error) {
	d.renewMu.Lock()
	defer d.renewMu.Unlock()
	d.renew, d.down = renew, down
}

func (d *renewing) renewed() int {
	d.renewMu.Lock()
	defer d.renewMu.Unlock()
	return len(d.renewals)
}

func testRenewing(t *testing.T, test func(t *testing.T, d *renewing, g registry.Registration)) {
	bubble.Test(t, func(t *testing.T) {
		d := &renewing{fake: newFake(), ttl: 15 * time.Second}
		g := watchtest.Register(t, newRegistry(t, d, registry.Options{}), instance("a"))
		synctest.Wait()
		test(t, d, g)
	})
}

func TestRegistration_RenewsEachThirdOfTheTTL(t *testing.T) {
	testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
		began := time.Now()
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, at := range d.renewals {
			if want := time.Duration(i+1) * 5 * time.Second; at.Sub(began) != want {
				t.Errorf("renewal %d came after %v, want %v", i, at.Sub(began), want)
			}
		}
		if n := d.renewed(); n != 12 || g.Err() != nil {
			t.Errorf("%d renewals in a minute, want 12; Err returns %v", n, g.Err())
		}
		if err := g.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		before := d.renewed()
		time.Sleep(time.Minute)
		if n := d.renewed(); n != before {
			t.Errorf("%d renewals after Deregister", n-before)
		}
	})
}

func TestRegistration_DoesNotRenewWithoutATTL(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &renewing{fake: newFake()}
		watchtest.Register(t, newRegistry(t, d, registry.Options{}), instance("a"))
		time.Sleep(time.Hour)
		if n := d.renewed(); n != 0 {
			t.Errorf("%d renewals, want none", n)
		}
	})
}

// wantLost fails unless g is lost after the next renewal for that reason, and registered again when that is possible.
func (d *renewing) wantLost(t *testing.T, g registry.Registration, after time.Duration, kind error, reason string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if err := g.Err(); !errors.Is(err, kind) || !strings.Contains(err.Error(), reason) {
		t.Errorf("%v later Err returns %v, want %q", after, err, reason)
	}
	d.set(nil, nil)
	time.Sleep(2 * registry.DefaultBackoffMax)
	synctest.Wait()
	if err := g.Err(); err != nil || !d.has("web", "a") {
		t.Errorf("it is not registered again, and Err returns %v", err)
	}
}

var errDown = errors.New("down")

func TestRegistration_IsLostIfARenewalFails(t *testing.T) {
	testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
		refused := errors.New("the lease is unknown")
		d.set(func(context.Context) error { return refused }, errDown)
		d.wantLost(t, g, 5*time.Second, registry.ErrUnavailable, "the lease is unknown")
		if len(d.causes) != 1 || d.causes[0] != refused {
			t.Errorf("Wait ended because of %v, want %v", d.causes, refused)
		}
	})
}

func TestRegistration_IsLostIfARenewalHangs(t *testing.T) {
	testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
		d.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, errDown)
		time.Sleep(10*time.Second - 1)
		if err := g.Err(); err != nil {
			t.Errorf("before a third of the TTL has passed Err returns %v", err)
		}
		d.wantLost(t, g, 1, registry.ErrUnavailable, "no answer to a renewal within 5s")
	})
}

func TestRegistration_YieldsIfARenewalFindsThatItWasReplaced(t *testing.T) {
	testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
		d.set(func(context.Context) error { return registry.ErrReplaced }, nil)
		d.wantLost(t, g, 5*time.Second, registry.ErrReplaced, "newer registration")
	})
}

// A process that was stopped meets both a renewal that is overdue and the newer registration. It must not overwrite that.
func TestRegistration_YieldsIfItWasReplacedWhileARenewalFails(t *testing.T) {
	testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
		var newer registry.Lease
		d.set(func(ctx context.Context) error {
			in := instance("a")
			l, err := d.fake.Register(ctx, &in, nil)
			if err != nil {
				return err
			}
			newer = l
			return errors.New("the lease is unknown")
		}, nil)
		time.Sleep(time.Minute)
		if err := g.Err(); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("Err returns %v", err)
		}
		d.set(nil, nil)
		if err := newer.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.wantLost(t, g, 0, registry.ErrReplaced, "newer registration")
	})
}

func TestRegistration_EndsARenewalInFlight(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, d *renewing, g registry.Registration){
		"by Deregister": func(t *testing.T, d *renewing, g registry.Registration) {
			if err := g.Deregister(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"by a loss": func(t *testing.T, d *renewing, g registry.Registration) { d.lose("web", "a") },
	} {
		t.Run(name, func(t *testing.T) {
			testRenewing(t, func(t *testing.T, d *renewing, g registry.Registration) {
				ended := false
				d.set(func(ctx context.Context) error { <-ctx.Done(); ended = true; return ctx.Err() }, nil)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				began := time.Now()
				end(t, d, g)
				synctest.Wait()
				if !ended || time.Since(began) != 0 {
					t.Errorf("after %v the renewal has ended: %v", time.Since(began), ended)
				}
			})
		})
	}
}

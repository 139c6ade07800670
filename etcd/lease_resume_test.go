package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Cases of TestLease_OnAServer in which a registration goes on with the lease that it had before, or does not.

// giveUp ends Wait of l.
func (t *leaseTrial) giveUp(l *lease) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	if err := l.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait returned %v", err)
	}
}

// registerAgain registers after prev when etcd can be reached again.
func (t *leaseTrial) registerAgain(prev registry.Lease) (l *lease) {
	t.Helper()
	watchtest.Eventually(t, "it is registered again", func() bool {
		in := t.instance
		again, err := t.driver.Register(t.ctx(), &in, prev)
		if again != nil {
			prev = again
		}
		if err == nil {
			l = again.(*lease)
		}
		return err == nil
	})
	return l
}

func testGoesOnWithTheLease(t *leaseTrial) {
	l := t.register()
	before := t.entry()
	t.giveUp(l)
	next := t.registerAfter(l)
	if next.id != l.id || *t.entry() != *before {
		t.Errorf("the entry was written again, on lease %d instead of %d", next.id, l.id)
	}
	t.must(next.Release(t.ctx()))
	if e := t.entry(); e != nil {
		t.Errorf("etcd still has %+v", e)
	}
}

// The second registration is treated like one of another process, also after the first one was lost.
func testTwiceInOneProcess(t *leaseTrial) {
	older := t.register()
	t.giveUp(older)
	newer := t.register()
	if newer.id == older.id {
		t.Error("it goes on with the lease of another registration")
	}
	t.wantReplaced(older, true)
	if err := older.Update(t.ctx(), &t.instance); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Update returned %v", err)
	}
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	t.must(newer.Release(t.ctx()))
	t.wantReplaced(older, false)
}

// A revocation that failed may be carried out later, so no registration goes on with that lease.
func testReleaseThatFailed(t *leaseTrial) {
	older := t.register()
	t.giveUp(older)
	t.way.cut()
	wantKind(t, older.Release(t.ctx()), registry.ErrUnavailable)
	t.way.heal()
	newer := t.registerAgain(older)
	t.wantEntryOf(newer)
	if newer.id == older.id || t.alive(older.id) {
		t.Error("it goes on with the lease, or has left it behind")
	}
}

func testGoesOnAfterABrokenConnection(t *leaseTrial) {
	l := t.register()
	before := t.entry()
	for range 3 {
		end := t.keep(l)
		t.way.cut()
		t.endsWith(end, registry.ErrUnavailable)
		t.way.heal()
		l = t.registerAgain(l)
	}
	if after := t.entry(); *after != *before {
		t.Errorf("the entry was written again: %+v, before it was %+v", after, before)
	}
}

func testOneLeaseIsLeft(t *leaseTrial) {
	leases := func() int {
		got, err := t.operator.Leases(t.ctx())
		t.must(err)
		return len(got.Leases)
	}
	before := leases()
	l := t.register()
	for i := range 3 {
		end := t.keep(l)
		t.way.cut()
		t.endsWith(end, registry.ErrUnavailable)
		t.way.heal()
		t.instance.Version = fmt.Sprint("changed ", i)
		l = t.registerAgain(l)
	}
	t.wantEntryOf(l)
	if now := leases(); now > before+1 { // leases of other tests may expire
		t.Errorf("there are %d leases more than before", now-before)
	}
}

// elsewhere returns a trial with the client of another process.
func (t *leaseTrial) elsewhere() *leaseTrial {
	t.Helper()
	other := *t
	other.driver = driverFor(t, Config{Endpoints: t.operator.Endpoints(), TTL: minTTL})
	t.Cleanup(func() { other.driver.Close() })
	return &other
}

func (t *leaseTrial) wantReplaced(l *lease, want bool) {
	t.Helper()
	if err := l.CheckReplaced(t.ctx()); errors.Is(err, registry.ErrReplaced) != want || err != nil && !want {
		t.Errorf("CheckReplaced returned %v, want that it was replaced: %v", err, want)
	}
}

func testReplacedWhileItWasAway(t *leaseTrial) {
	older := t.register()
	t.giveUp(older)
	t.wantReplaced(older, false)
	failed := t.failedAttempt(older)
	t.wantReplaced(failed, false)

	newer := t.elsewhere().register()
	t.wantReplaced(failed, true)
	t.wantEntryOf(newer)
	own := failed.own
	failed.own = t.entry().revision // as if the store had been restored to an older state
	t.wantReplaced(failed, false)
	failed.own = own
	t.must(newer.Release(t.ctx()))
	t.wantReplaced(failed, false)
	t.way.cut()
	wantKind(t.T, failed.CheckReplaced(t.ctx()), registry.ErrUnavailable)
}

// The lease of an attempt that failed after its grant does not treat an older entry as its own.
func testGrantAfterTheNewerEntry(t *leaseTrial) {
	older := t.register()
	t.giveUp(older)
	t.elsewhere().register()
	l := t.driver.successor(t.key, older)
	t.must(l.ensureGranted(t.ctx()))
	t.wantReplaced(l.afterFailure(t.ctx(), errors.New("the write failed")).(*lease), true)
}

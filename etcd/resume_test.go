package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// Cases of TestLeaseOnAnEtcd in which an announcement goes on with the lease of an earlier one, or does not.

// giveUp ends Keep of l, as a broken connection does.
func (t *leaseTrial) giveUp(l *lease) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	if err := l.Keep(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Keep returned %v", err)
	}
}

// announceAgain announces when etcd can be reached again.
func (t *leaseTrial) announceAgain() (l *lease) {
	t.Helper()
	eventually(t, "it is announced again", func() bool {
		in := t.instance
		again, err := t.driver.Announce(t.ctx(), &in)
		if err == nil {
			l = again.(*lease)
		}
		return err == nil
	})
	return l
}

func testReleaseLeavesWhatAnotherGoesOnWith(t *leaseTrial) {
	older := t.announce()
	t.giveUp(older)
	newer := t.announce()
	if newer.id != older.id {
		t.Errorf("it was announced anew, on lease %d after %d", newer.id, older.id)
	}
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	t.must(newer.Release(t.ctx()))
	if e := t.entry(); e != nil {
		t.Errorf("etcd still has %+v", e)
	}
}

// A revocation that failed may be late, or be made again, so nobody goes on with what it is to end.
func testReleaseThatFailed(t *leaseTrial) {
	older := t.announce()
	t.giveUp(older)
	t.way.cut()
	wantKind(t, older.Release(t.ctx()), registry.ErrUnavailable)
	t.way.heal()
	newer := t.announceAgain()
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
}

// What another announcement goes on with is not the first one's to write, and while that is open it is nobody's.
func testPassedOnAndNotYet(t *leaseTrial) {
	older := t.announce()
	t.giveUp(older)
	newer := t.announce()
	if err := older.Update(t.ctx(), &t.instance); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Update returned %v", err)
	}
	if !newer.pass() {
		t.Fatal("it cannot be passed on")
	}
	wantKind(t.T, newer.Release(t.ctx()), registry.ErrUnavailable)
	wantKind(t.T, newer.Update(t.ctx(), &t.instance), registry.ErrUnavailable)
	t.wantEntryOf(newer)
	newer.fate.Store(ours)
	if newer.pass() {
		t.Error("it is passed on with a write on its way")
	}
	t.must(newer.Release(t.ctx()))
	if e := t.entry(); e != nil {
		t.Errorf("etcd still has %+v", e)
	}
}

func testGoesOnAfterABrokenConnection(t *leaseTrial) {
	l := t.announce()
	before := t.entry()
	for range 3 {
		end := t.keep(l)
		t.way.cut()
		t.endsWith(end, registry.ErrUnavailable, patience)
		t.way.heal()
		l = t.announceAgain()
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
	l := t.announce()
	for i := range 3 {
		end := t.keep(l)
		t.way.cut()
		t.endsWith(end, registry.ErrUnavailable, patience)
		t.way.heal()
		t.instance.Version = fmt.Sprint("changed ", i)
		l = t.announceAgain()
	}
	t.wantEntryOf(l)
	if now := leases(); now > before+1 { // those of other tests may expire
		t.Errorf("there are %d leases more than before", now-before)
	}
}

// elsewhere is the client of another process.
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
	older := t.announce()
	t.giveUp(older)
	t.wantReplaced(older, false)
	// An attempt to announce it again was carried out, and its answer lost.
	lost, err := t.driver.grant(t.ctx(), t.key)
	t.must(err)
	t.must(lost.put(t.ctx(), []byte("{}")))
	t.driver.left.add(t.key, lost.leftover(false))
	t.wantReplaced(older, false)

	newer := t.elsewhere().announce()
	t.wantReplaced(older, true)
	t.wantEntryOf(newer)
	known := older.known
	older.known = t.entry().revision // of a store that was restored to what was before older
	t.wantReplaced(older, false)
	older.known = known
	t.must(newer.Release(t.ctx()))
	t.wantReplaced(older, false)
	t.way.cut()
	wantKind(t.T, older.CheckReplaced(t.ctx()), registry.ErrUnavailable)
}

func testPassedOnWhileItWasAway(t *leaseTrial) {
	older := t.announce()
	t.giveUp(older)
	newer := t.announce()
	t.wantReplaced(older, true)
	if !newer.pass() {
		t.Fatal("it cannot be passed on")
	}
	wantKind(t.T, newer.CheckReplaced(t.ctx()), registry.ErrUnavailable)
	newer.fate.Store(ours)
	t.must(newer.Release(t.ctx()))
	t.wantReplaced(older, false)
}

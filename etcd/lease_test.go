package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestLeaseOnAnEtcd(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
	for name, test := range map[string]func(*leaseTrial){
		"deleted behind its back":             testDeletedBehindItsBack,
		"lease revoked":                       testLeaseRevoked,
		"replaced":                            testReplaced,
		"replaced after a deletion":           testReplacedAfterADeletion,
		"deleted before Keep":                 testDeletedBeforeKeep,
		"its own update is no loss":           testOwnUpdateIsNoLoss,
		"compacted before Keep":               testCompactedBeforeKeep,
		"released":                            testReleased,
		"release leaves another's entry":      testReleaseLeavesAnothersEntry,
		"release leaves what goes on":         testReleaseLeavesWhatAnotherGoesOnWith,
		"release that failed, and another":    testReleaseThatFailed,
		"passed on, and not yet":              testPassedOnAndNotYet,
		"replaced while it was away":          testReplacedWhileItWasAway,
		"passed on while it was away":         testPassedOnWhileItWasAway,
		"update does not take over":           testUpdateDoesNotTakeOver,
		"update does not resurrect":           testUpdateDoesNotResurrect,
		"renewed":                             testRenewed,
		"cancelled Keep renews nothing":       testCancelledKeepRenewsNothing,
		"goes on after a broken connection":   testGoesOnAfterABrokenConnection,
		"an outage longer than the TTL":       testOutageLongerThanTheTTL,
		"one lease is left after an update":   testOneLeaseIsLeft,
		"release after a failed announcement": testReleaseAfterAFailedAnnouncement,
		"too large":                           testTooLarge,
	} {
		t.Run(name, func(t *testing.T) {
			way := newNetwork(t, server.Addr())
			d := driverFor(t, Config{Endpoints: []string{way.addr()}, TTL: minTTL})
			t.Cleanup(func() { d.Close() })
			service := fmt.Sprintf("s-%d", time.Now().UnixNano())
			test(&leaseTrial{
				T: t, way: way, driver: d, operator: operator, key: d.keyOf(service, "a"),
				instance: registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Version: "1"},
			})
		})
	}
}

type leaseTrial struct {
	*testing.T
	way      *network
	driver   *driver
	operator *clientv3.Client
	instance registry.Instance
	key      string
}

func (t *leaseTrial) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *leaseTrial) ctx() context.Context { return within(t, patience) }

func (t *leaseTrial) announce() *lease {
	t.Helper()
	in := t.instance
	l, err := t.driver.Announce(t.ctx(), &in)
	t.must(err)
	return l.(*lease)
}

// keep runs Keep, and returns where its end will be told.
func (t *leaseTrial) keep(l registry.Lease) <-chan error {
	end := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		end <- l.Keep(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return end
}

// endsWith waits for the end of Keep.
func (t *leaseTrial) endsWith(end <-chan error, want error, limit time.Duration) {
	t.Helper()
	select {
	case err := <-end:
		if !errors.Is(err, want) || err == nil != (want == nil) {
			t.Errorf("Keep returned %v, want %v", err, want)
		}
	case <-time.After(limit):
		t.Fatalf("Keep still runs after %v", limit)
	}
}

// entry is what etcd has under the key, nil where it has nothing.
func (t *leaseTrial) entry() *entryInEtcd {
	t.Helper()
	got, err := t.operator.Get(t.ctx(), t.key)
	t.must(err)
	if len(got.Kvs) == 0 {
		return nil
	}
	kv := got.Kvs[0]
	return &entryInEtcd{string(kv.Value), kv.Lease, kv.ModRevision}
}

type entryInEtcd struct {
	value    string
	lease    int64
	revision int64
}

// alive reports whether etcd knows a lease.
func (t *leaseTrial) alive(id int64) bool {
	t.Helper()
	got, err := t.operator.TimeToLive(t.ctx(), clientv3.LeaseID(id))
	t.must(err)
	return got.TTL > 0
}

func (t *leaseTrial) wantEntryOf(l *lease) {
	t.Helper()
	if e := t.entry(); e == nil || e.lease != l.id {
		t.Errorf("etcd has %+v, want an entry on lease %d", e, l.id)
	}
}

func (t *leaseTrial) delete() {
	t.Helper()
	_, err := t.operator.Delete(t.ctx(), t.key)
	t.must(err)
}

// noticed is what tells a loss that the watch has shown from one that a renewal would find, much later, with room for a machine
// that is busy.
const noticed = 10 * time.Second

func testDeletedBehindItsBack(t *leaseTrial) {
	l := t.announce()
	end := t.keep(l)
	t.delete()
	t.endsWith(end, registry.ErrUnavailable, noticed)
	again := t.announce()
	t.wantEntryOf(again)
	if t.alive(l.id) {
		t.Error("the lease of the entry that was deleted is still there")
	}
}

func testLeaseRevoked(t *leaseTrial) {
	t.driver.settings.TTL = patience // or a renewal would notice as well
	l := t.announce()
	end := t.keep(l)
	_, err := t.operator.Revoke(t.ctx(), clientv3.LeaseID(l.id))
	t.must(err)
	t.endsWith(end, registry.ErrUnavailable, noticed)
	t.wantEntryOf(t.announce())
}

func testReplaced(t *leaseTrial) {
	older := t.announce()
	end := t.keep(older)
	newer := t.announce()
	t.endsWith(end, registry.ErrReplaced, noticed)
	t.wantEntryOf(newer)
	if t.alive(older.id) {
		t.Error("the lease that was superseded is still there")
	}
}

func testReplacedAfterADeletion(t *leaseTrial) {
	older := t.announce()
	t.delete()
	newer := t.announce()
	t.endsWith(t.keep(older), registry.ErrReplaced, noticed)
	t.wantEntryOf(newer)
}

func testDeletedBeforeKeep(t *leaseTrial) {
	l := t.announce()
	t.delete()
	t.endsWith(t.keep(l), registry.ErrUnavailable, noticed)
}

func testOwnUpdateIsNoLoss(t *leaseTrial) {
	l := t.announce()
	end := t.keep(l)
	for i := range 20 {
		in := t.instance
		in.Version = fmt.Sprint(i)
		t.must(l.Update(t.ctx(), &in))
	}
	select {
	case err := <-end:
		t.Errorf("Keep returned %v", err)
	default:
	}
	if e := t.entry(); !strings.Contains(e.value, `"version":"19"`) || e.lease != l.id {
		t.Errorf("etcd has %+v", e)
	}
}

func testCompactedBeforeKeep(t *leaseTrial) {
	l := t.announce()
	in := t.instance
	for range 3 {
		t.must(l.Update(t.ctx(), &in))
	}
	before := t.entry()
	_, err := t.operator.Compact(t.ctx(), before.revision)
	t.must(err)
	t.endsWith(t.keep(l), registry.ErrUnavailable, noticed)
	again := t.announce()
	if after := t.entry(); *after != *before {
		t.Errorf("the entry was written again: %+v, before it was %+v", after, before)
	}
	t.endsNotWithin(t.keep(again), 100*time.Millisecond)
}

func testReleased(t *leaseTrial) {
	l := t.announce()
	end := t.keep(l)
	t.must(l.Release(t.ctx()))
	t.endsWith(end, nil, patience)
	if e := t.entry(); e != nil || t.alive(l.id) {
		t.Errorf("etcd still has %+v, or its lease", e)
	}
	t.must(l.Release(t.ctx())) // of what is gone
}

func testReleaseLeavesAnothersEntry(t *leaseTrial) {
	older, newer := t.announce(), t.announce()
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	// Also where the other one is of the same client, and holding it has just failed.
	older, newer = newer, t.announce()
	t.giveUp(newer)
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	// And where it hangs on no lease of ours.
	_, err := t.operator.Put(t.ctx(), t.key, "by hand")
	t.must(err)
	t.must(newer.Release(t.ctx()))
	if e := t.entry(); e == nil || e.value != "by hand" {
		t.Errorf("etcd has %+v", e)
	}
}

func testUpdateDoesNotTakeOver(t *leaseTrial) {
	older, newer := t.announce(), t.announce()
	in := t.instance
	in.Version = "older"
	if err := older.Update(t.ctx(), &in); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Update returned %v", err)
	}
	t.wantEntryOf(newer)
}

func testUpdateDoesNotResurrect(t *leaseTrial) {
	l := t.announce()
	t.delete()
	in := t.instance
	if err := l.Update(t.ctx(), &in); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Update returned %v", err)
	}
	if e := t.entry(); e != nil {
		t.Errorf("etcd has %+v", e)
	}
}

func testRenewed(t *leaseTrial) {
	l := t.announce()
	end := t.keep(l)
	t.endsNotWithin(end, l.ttl+2*time.Second)
	t.wantEntryOf(l)
}

// endsNotWithin takes its time, as tests of what must not happen do.
func (t *leaseTrial) endsNotWithin(end <-chan error, d time.Duration) {
	t.Helper()
	select {
	case err := <-end:
		t.Fatalf("Keep returned %v", err)
	case <-time.After(d):
	}
}

func testCancelledKeepRenewsNothing(t *leaseTrial) {
	l := t.announce()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- l.Keep(ctx) }()
	cancel()
	t.endsWith(end, context.Canceled, patience)
	eventually(t, "the entry expires", func() bool { return t.entry() == nil })
	t.wantEntryOf(t.announce())
}

func testOutageLongerThanTheTTL(t *leaseTrial) {
	r := registry.New(t.driver, registry.Options{})
	t.Cleanup(func() { r.Close() })
	g := register(t, r, t.instance)
	w := follow(t, r, registry.Query{Service: t.instance.Service})
	w.until("the instance", healthy(1))
	t.way.cut()
	eventually(t, "the entry expires", func() bool { return t.entry() == nil })
	if err := g.Err(); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Err is %v", err)
	}
	w.until("the last good set beside an error", func(p pair) bool { return p.err != nil && len(p.set) == 1 })
	t.way.heal()
	began := time.Now()
	eventually(t, "it stands", func() bool { return g.Err() == nil })
	w.until("the instance", healthy(1))
	t.Logf("back after %v", time.Since(began))
	for _, p := range w.all()[1:] {
		if len(p.set) == 0 {
			t.Errorf("the watcher saw %v", p)
		}
	}
}

func testReleaseAfterAFailedAnnouncement(t *leaseTrial) {
	l := t.announce()
	// Of an attempt that was carried out, and whose answer was lost.
	lost, err := t.driver.grant(t.ctx(), t.key)
	t.must(err)
	err = lost.put(t.ctx(), []byte("{}"))
	t.must(err)
	t.driver.left.add(t.key, lost.leftover(false))
	t.must(l.Release(t.ctx()))
	if e := t.entry(); e != nil {
		t.Errorf("etcd still has %+v", e)
	}
}

func testTooLarge(t *leaseTrial) {
	in := t.instance
	in.Metadata = map[string]string{"k": strings.Repeat("x", 2<<20)}
	_, err := t.driver.Announce(t.ctx(), &in)
	wantKind(t, err, registry.ErrInvalid)
}

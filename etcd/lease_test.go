package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestLease_OnAServer(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for name, test := range map[string]func(*leaseTrial){
		"deleted behind its back":           testDeletedBehindItsBack,
		"lease revoked":                     testLeaseRevoked,
		"replaced":                          testReplaced,
		"replaced after a deletion":         testReplacedAfterADeletion,
		"deleted before Wait":               testDeletedBeforeWait,
		"its own update is no loss":         testOwnUpdateIsNoLoss,
		"compacted before Wait":             testCompactedBeforeWait,
		"released":                          testReleased,
		"release leaves another's entry":    testReleaseLeavesAnothersEntry,
		"goes on with the lease":            testGoesOnWithTheLease,
		"twice in one process":              testTwiceInOneProcess,
		"release that failed, and another":  testReleaseThatFailed,
		"replaced while it was away":        testReplacedWhileItWasAway,
		"a grant after the newer entry":     testGrantAfterTheNewerEntry,
		"update does not take over":         testUpdateDoesNotTakeOver,
		"update does not resurrect":         testUpdateDoesNotResurrect,
		"renewed":                           testRenewed,
		"cancelled Wait renews nothing":     testCancelledWaitRenewsNothing,
		"goes on after a broken connection": testGoesOnAfterABrokenConnection,
		"an outage longer than the TTL":     testOutageLongerThanTheTTL,
		"one lease is left after an update": testOneLeaseIsLeft,
		"release after a failed attempt":    testReleaseAfterAFailedAttempt,
		"departs after a failed attempt":    testDepartsAfterAFailedAttempt,
		"too large":                         testTooLarge,
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

func (t *leaseTrial) ctx() context.Context { return watchtest.Context(t) }

// register makes a new registration of the instance.
func (t *leaseTrial) register() *lease {
	t.Helper()
	return t.registerAfter(nil)
}

// registerAfter registers the instance again after the lease prev.
func (t *leaseTrial) registerAfter(prev *lease) *lease {
	t.Helper()
	in := t.instance
	var before registry.Lease
	if prev != nil {
		before = prev
	}
	l, err := t.driver.Register(t.ctx(), &in, before)
	t.must(err)
	return l.(*lease)
}

// keep keeps a lease, and returns the channel that gets the reason why it is lost.
func (t *leaseTrial) keep(l registry.Lease) <-chan error {
	end := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		end <- keep(ctx, l, l.TTL()/3)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return end
}

// endsWith waits until the lease is lost.
func (t *leaseTrial) endsWith(end <-chan error, want error) {
	t.Helper()
	if err := watchtest.Receive(t, "the end of the lease", end); !errors.Is(err, want) || err == nil != (want == nil) {
		t.Errorf("the lease ended with %v, want %v", err, want)
	}
}

// entry returns what etcd has under the key, or nil.
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

func testDeletedBehindItsBack(t *leaseTrial) {
	l := t.register()
	end := t.keep(l)
	t.delete()
	t.endsWith(end, registry.ErrUnavailable)
	again := t.registerAfter(l)
	t.wantEntryOf(again)
	if t.alive(l.id) {
		t.Error("the lease of the deleted entry still exists")
	}
}

func testLeaseRevoked(t *leaseTrial) {
	t.driver.settings.TTL = 4 * watchtest.Timeout // so that no renewal notices the loss before the test fails
	l := t.register()
	end := t.keep(l)
	_, err := t.operator.Revoke(t.ctx(), clientv3.LeaseID(l.id))
	t.must(err)
	t.endsWith(end, registry.ErrUnavailable)
	t.wantEntryOf(t.registerAfter(l))
}

func testReplaced(t *leaseTrial) {
	older := t.register()
	end := t.keep(older)
	newer := t.register()
	t.endsWith(end, registry.ErrReplaced)
	t.wantEntryOf(newer)
	if t.alive(older.id) {
		t.Error("the lease of the replaced registration still exists")
	}
}

func testReplacedAfterADeletion(t *leaseTrial) {
	older := t.register()
	t.delete()
	newer := t.register()
	t.endsWith(t.keep(older), registry.ErrReplaced)
	t.wantEntryOf(newer)
}

func testDeletedBeforeWait(t *leaseTrial) {
	l := t.register()
	t.delete()
	t.endsWith(t.keep(l), registry.ErrUnavailable)
}

func testOwnUpdateIsNoLoss(t *leaseTrial) {
	l := t.register()
	end := t.keep(l)
	for i := range 20 {
		in := t.instance
		in.Version = fmt.Sprint(i)
		t.must(l.Update(t.ctx(), &in))
	}
	select {
	case err := <-end:
		t.Errorf("the lease ended with %v", err)
	default:
	}
	if e := t.entry(); !strings.Contains(e.value, `"version":"19"`) || e.lease != l.id {
		t.Errorf("etcd has %+v", e)
	}
}

func testCompactedBeforeWait(t *leaseTrial) {
	l := t.register()
	in := t.instance
	for range 3 {
		t.must(l.Update(t.ctx(), &in))
	}
	before := t.entry()
	_, err := t.operator.Compact(t.ctx(), before.revision)
	t.must(err)
	t.endsWith(t.keep(l), registry.ErrUnavailable)
	again := t.registerAfter(l)
	if after := t.entry(); *after != *before {
		t.Errorf("the entry was written again: %+v, before it was %+v", after, before)
	}
	end := t.keep(again)
	t.register()
	t.endsWith(end, registry.ErrReplaced) // and not before, because of the compaction
}

func testReleased(t *leaseTrial) {
	l := t.register()
	end := t.keep(l)
	t.must(l.Release(t.ctx()))
	t.endsWith(end, nil)
	if e := t.entry(); e != nil || t.alive(l.id) {
		t.Errorf("etcd still has %+v, or its lease", e)
	}
	t.must(l.Release(t.ctx())) // again
}

func testReleaseLeavesAnothersEntry(t *leaseTrial) {
	older, newer := t.register(), t.register()
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	// Also if the newer one was just lost.
	older, newer = newer, t.register()
	t.giveUp(newer)
	t.must(older.Release(t.ctx()))
	t.wantEntryOf(newer)
	// And if the entry was written by an operator.
	_, err := t.operator.Put(t.ctx(), t.key, "by hand")
	t.must(err)
	t.must(newer.Release(t.ctx()))
	if e := t.entry(); e == nil || e.value != "by hand" {
		t.Errorf("etcd has %+v", e)
	}
}

func testUpdateDoesNotTakeOver(t *leaseTrial) {
	older, newer := t.register(), t.register()
	in := t.instance
	in.Version = "older"
	if err := older.Update(t.ctx(), &in); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Update returned %v", err)
	}
	t.wantEntryOf(newer)
}

func testUpdateDoesNotResurrect(t *leaseTrial) {
	l := t.register()
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
	l := t.register()
	end := t.keep(l)
	etcdtest.AwaitExpiry(t, t.operator, l.ttl)
	select {
	case err := <-end:
		t.Fatalf("the lease ended with %v", err)
	default:
	}
	t.wantEntryOf(l)
}

func testCancelledWaitRenewsNothing(t *leaseTrial) {
	l := t.register()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- keep(ctx, l, l.TTL()/3) }()
	cancel()
	t.endsWith(end, context.Canceled)
	watchtest.Eventually(t, "the entry expires", func() bool { return t.entry() == nil })
	t.wantEntryOf(t.registerAfter(l))
}

func testOutageLongerThanTheTTL(t *leaseTrial) {
	r := watchtest.NewRegistry(t, t.driver, registry.Options{})
	g := watchtest.Register(t, r, t.instance)
	w := watchtest.Watch(t, r, registry.Query{Service: t.instance.Service})
	w.Until("the instance", watchtest.Healthy(1))
	t.way.cut()
	watchtest.Eventually(t, "the entry expires", func() bool { return t.entry() == nil })
	if err := g.Err(); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Err is %v", err)
	}
	w.Until("the last good set beside an error", func(p watchtest.Pair) bool { return p.Err != nil && len(p.Set) == 1 })
	t.way.heal()
	began := time.Now()
	watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	w.Until("the instance", watchtest.Healthy(1))
	t.Logf("back after %v", time.Since(began))
	for _, p := range w.All()[1:] {
		if len(p.Set) == 0 {
			t.Errorf("the watcher saw %v", p)
		}
	}
}

func testReleaseAfterAFailedAttempt(t *leaseTrial) {
	l := t.register()
	failed := t.failedAttempt(l)
	t.must(failed.Release(t.ctx()))
	if e := t.entry(); e != nil || t.alive(l.id) || t.alive(failed.id) {
		t.Errorf("etcd still has %+v, or a lease", e)
	}
}

// failedAttempt returns the lease of an attempt to register the instance again, which was carried out and whose answer was lost.
func (t *leaseTrial) failedAttempt(prev *lease) *lease {
	t.Helper()
	l := t.driver.successor(t.key, prev)
	t.must(l.establish(t.ctx(), []byte(`{"id":"a"}`)))
	l.own, l.known = prev.own, prev.known
	l.content = &t.instance
	return l.afterFailure(t.ctx(), errors.New("the answer is lost")).(*lease)
}

// The entry is still on the lease from before the failed attempt. Readers learn that the instance left on purpose all the same.
func testDepartsAfterAFailedAttempt(t *leaseTrial) {
	l := t.register()
	t.giveUp(l)
	next := t.driver.successor(t.key, l)
	t.must(next.ensureGranted(t.ctx()))
	next.content = &t.instance
	failed := next.afterFailure(t.ctx(), errors.New("the write failed"))
	s := t.driver.Watch(registry.Query{Service: t.instance.Service})
	defer s.Close()
	set, err := s.Next(t.ctx())
	t.must(err)
	t.must(failed.Release(t.ctx()))
	var departed []string
	for len(set.Instances) > 0 {
		set, err = s.Next(t.ctx())
		t.must(err)
		departed = append(departed, set.Departed...)
	}
	if !slices.Equal(departed, []string{"a"}) {
		t.Errorf("departed are %v", departed)
	}
}

func testTooLarge(t *leaseTrial) {
	in := t.instance
	in.Metadata = map[string]string{"k": strings.Repeat("x", 2<<20)}
	_, err := t.driver.Register(t.ctx(), &in, nil)
	wantKind(t, err, registry.ErrInvalid)
}

// granted returns a lease of another registration, which has no entry yet.
func (t *leaseTrial) granted() *lease {
	t.Helper()
	l := t.driver.newLease(t.key, newLeaseID(), t.driver.settings.TTL)
	t.must(l.ensureGranted(t.ctx()))
	return l
}

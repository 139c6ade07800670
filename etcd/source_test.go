package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/etcd/internal/watch"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSource_OnAServer(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for name, test := range map[string]func(*sourceTrial){
		"one change":                    testOneChange,
		"a long list":                   testALongList,
		"junk":                          testJunk,
		"neighbours":                    testNeighbours,
		"what changes nothing":          testWhatChangesNothing,
		"one transaction is one set":    testOneTransactionIsOneSet,
		"large events":                  testLargeEvents,
		"a list larger than the window": testListLargerThanTheWindow,
		"compaction":                    testCompaction,
		"an idle watch":                 testIdleWatch,
		"the caller's context":          testTheCallersContext,
		"read again after an error":     testReadAgainAfterAnError,
		"services":                      testServices,
		"watch from a compacted change": testCompactedChange,
	} {
		t.Run(name, func(t *testing.T) {
			way := newNetwork(t, server.Addr())
			prefix := fmt.Sprintf("/p-%d/", time.Now().UnixNano())
			d := driverFor(t, Config{Endpoints: []string{way.addr()}, Prefix: prefix})
			t.Cleanup(func() { d.Close() })
			source := d.Watch(registry.Query{Service: "user"})
			t.Cleanup(func() { source.Close() })
			test(&sourceTrial{T: t, way: way, driver: d, operator: operator, source: source})
		})
	}
}

type sourceTrial struct {
	*testing.T
	way      *network
	driver   *driver
	operator *clientv3.Client
	source   registry.Source

	unreadable []string // IDs in the newest set
}

func (t *sourceTrial) next() []*registry.Instance {
	t.Helper()
	set, err := t.source.Next(watchtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	t.unreadable = nil
	for _, u := range set.Unreadable {
		t.unreadable = append(t.unreadable, strings.TrimPrefix(u.Entry, t.driver.prefixOf("user")))
	}
	return set.Instances
}

// wantUnreadable checks the IDs of the entries that the newest set left out.
func (t *sourceTrial) wantUnreadable(ids ...string) {
	t.Helper()
	if !slices.Equal(t.unreadable, ids) {
		t.Errorf("unreadable are %q, want %q", t.unreadable, ids)
	}
}

// put writes instances of a service as the documentation says that they look, in a few transactions.
func (t *sourceTrial) put(service string, ids ...string) {
	t.Helper()
	for chunk := range slices.Chunk(ids, 100) {
		var ops []clientv3.Op
		for _, id := range chunk {
			ops = append(ops, clientv3.OpPut(t.driver.keyOf(service, id),
				fmt.Sprintf(`{"id":%q,"service":%q,"address":"10.0.0.1:80","weight":1}`, id, service)))
		}
		if _, err := t.operator.Txn(watchtest.Context(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func (t *sourceTrial) putValue(service, id, value string) {
	t.Helper()
	if _, err := t.operator.Put(watchtest.Context(t), t.driver.keyOf(service, id), value); err != nil {
		t.Fatal(err)
	}
}

func (t *sourceTrial) delete(service, id string) {
	t.Helper()
	if _, err := t.operator.Delete(watchtest.Context(t), t.driver.keyOf(service, id)); err != nil {
		t.Fatal(err)
	}
}

func ids(set []*registry.Instance) []string {
	out := []string{}
	for _, in := range set {
		out = append(out, in.ID)
	}
	return out
}

func (t *sourceTrial) wantNext(want ...string) []*registry.Instance {
	t.Helper()
	set := t.next()
	if !slices.Equal(ids(set), want) {
		t.Fatalf("the set is %v, want %v", ids(set), want)
	}
	return set
}

func (t *sourceTrial) wantError(kind error) error {
	t.Helper()
	set, err := next(watchtest.Context(t), t.source)
	if !errors.Is(err, kind) || set != nil {
		t.Fatalf("got %v, %v, want %v", ids(set), err, kind)
	}
	return err
}

func testOneChange(t *sourceTrial) {
	if set := t.wantNext(); set == nil {
		t.Error("the empty set is nil")
	}
	t.put("user", "b")
	first := t.wantNext("b")
	t.put("user", "a")
	second := t.wantNext("a", "b")
	if second[1] != first[0] {
		t.Error("an unchanged instance has another pointer")
	}
	if len(first) != 1 || first[0].ID != "b" {
		t.Error("a set that was returned has changed")
	}
	t.putValue("user", "b", `{"service":"user","address":"10.0.0.2:80"}`)
	third := t.wantNext("a", "b")
	if third[1].Address != "10.0.0.2:80" || second[1].Address != "10.0.0.1:80" {
		t.Errorf("the sets have %v and %v", second[1], third[1])
	}
	t.delete("user", "a")
	t.wantNext("b")
	t.delete("user", "b")
	t.wantNext()
}

func testALongList(t *sourceTrial) {
	var want []string
	for i := range 2*pageSize + 500 {
		want = append(want, fmt.Sprintf("i%05d", i))
	}
	t.put("user", want...)
	before := t.wantNext(want...)
	t.putValue("user", want[1234], `{"service":"user","address":"10.0.0.9:80"}`)
	after := t.wantNext(want...)
	for i := range after {
		if (before[i] == after[i]) == (i == 1234) {
			t.Fatalf("the pointer of instance %d is the same: %v", i, before[i] == after[i])
		}
	}
}

func testJunk(t *sourceTrial) {
	for id, value := range map[string]string{
		"empty": "", "no-json": "\x00\x01", "number": "7", "no-address": `{"service":"user"}`, "wrong-type": `{"address":7}`,
		"other-service": `{"service":"other","address":"10.0.0.1:80"}`, "other-id": `{"id":"x","service":"user","address":"10.0.0.1:80"}`,
		"deep/er": `{"service":"user","address":"10.0.0.1:80"}`, "": `{"service":"user","address":"10.0.0.1:80"}`,
	} {
		t.putValue("user", id, value)
	}
	t.put("user", "good")
	t.wantNext("good")
	t.wantUnreadable("", "deep/er", "empty", "no-address", "no-json", "number", "other-id", "other-service", "wrong-type")
	t.delete("user", "")
	t.wantNext("good") // the list of what cannot be read has changed
	t.wantUnreadable("deep/er", "empty", "no-address", "no-json", "number", "other-id", "other-service", "wrong-type")
	t.putValue("user", "later", "junk")
	t.put("user", "better")
	for !slices.Equal(ids(t.next()), []string{"better", "good"}) {
	}
	t.putValue("user", "good", "junk") // what it said before is out of date
	t.wantNext("better")
	t.put("user", "good")
	t.wantNext("better", "good")
}

func testNeighbours(t *sourceTrial) {
	for _, other := range []string{"use", "user-admin", "user.x", "user0", "users", "User"} {
		t.put(other, "x")
		t.putValue(other, "junk", "junk")
	}
	t.put("user", "a")
	t.wantNext("a")
	t.put("user-admin", "y")
	t.put("user0", "y")
	t.put("user", "b")
	t.wantNext("a", "b")
	t.wantUnreadable()
}

func testWhatChangesNothing(t *sourceTrial) {
	t.put("user", "a")
	before := t.wantNext("a")
	for range 10 {
		t.put("user", "a")
		t.delete("user", "never there")
	}
	t.put("user", "b")
	if after := t.wantNext("a", "b"); after[0] != before[0] {
		t.Error("an instance that was written again with the same content has another pointer")
	}
}

func testOneTransactionIsOneSet(t *sourceTrial) {
	t.wantNext()
	t.put("user", "a", "b", "c", "d")
	t.wantNext("a", "b", "c", "d")
}

// Events of one revision that do not fit into a message come in fragments.
func testLargeEvents(t *sourceTrial) {
	t.wantNext()
	var ops []clientv3.Op
	for i := range 5 {
		ops = append(ops, clientv3.OpPut(t.driver.keyOf("user", fmt.Sprint(i)),
			fmt.Sprintf(`{"service":"user","address":"10.0.0.1:80","version":"%0250000d"}`, i)))
	}
	for range 2 {
		if _, err := t.operator.Txn(watchtest.Context(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	t.wantNext("0", "1", "2", "3", "4")
}

func testListLargerThanTheWindow(t *sourceTrial) {
	const each = 1 << 20
	var want []string
	for i := range 2*conn.Window/each + 1 {
		want = append(want, fmt.Sprint("i", i+100))
		t.putValue("user", want[i], fmt.Sprintf(`{"service":"user","address":"10.0.0.1:80","version":"%0*d"}`, each, i))
	}
	t.wantNext(want...)
	t.put("user", "j")
	t.wantNext(append(want, "j")...)
}

func testCompaction(t *sourceTrial) {
	t.wantNext()
	t.put("user", "a")
	got, err := t.operator.Get(watchtest.Context(t), "x")
	if err == nil {
		_, err = t.operator.Compact(watchtest.Context(t), got.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.wantNext("a")
	t.put("user", "b")
	t.wantNext("a", "b")
}

func testCompactedChange(t *sourceTrial) {
	for range 3 {
		t.put("user", "a")
	}
	got, err := t.operator.Get(watchtest.Context(t), "x")
	if err == nil {
		_, err = t.operator.Compact(watchtest.Context(t), got.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.wantNext("a")
	s := t.source.(*source)
	s.Close()
	w, err := t.driver.watches.Watch(watchtest.Context(t), "watch", s.prefix, format.PrefixEnd(s.prefix), got.Header.Revision-2)
	if err != nil {
		t.Fatal(err)
	}
	s.watch = w
	t.wantError(registry.ErrUnavailable)
	t.wantNext("a")
}

// checkOften checks the liveness of w until ctx ends. It returns a function that waits for that.
func checkOften(ctx context.Context, w *watch.Watch) (wait func()) {
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			w.CheckLiveness(ctx)
			time.Sleep(10 * time.Millisecond)
		}
	})
	return work.Wait
}

// A watch that is only idle does not count as a watch that missed changes.
func testIdleWatch(t *sourceTrial) {
	t.put("user", "a")
	t.wantNext("a")
	before := t.source.(*source).watch
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	defer checkOften(ctx, before)()
	if _, err := t.source.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	t.wantNext("a")
	t.put("user", "b")
	t.wantNext("a", "b")
}

func testTheCallersContext(t *sourceTrial) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := t.source.Next(ended); err != context.Canceled {
		t.Errorf("the first read returned %v", err)
	}
	t.wantNext()
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := t.source.Next(short); err != context.DeadlineExceeded {
		t.Errorf("the watch returned %v", err)
	}
	t.put("user", "a")
	t.wantNext("a")
}

func testReadAgainAfterAnError(t *sourceTrial) {
	t.put("user", "a", "b")
	t.wantNext("a", "b")
	t.way.cut()
	t.wantError(registry.ErrUnavailable)
	t.wantError(registry.ErrUnavailable)
	t.delete("user", "a")
	t.put("user", "c")
	t.way.heal()
	var set []*registry.Instance
	watchtest.Eventually(t, "it is read again", func() (ok bool) {
		var err error
		set, err = next(watchtest.Context(t), t.source)
		return err == nil
	})
	if !slices.Equal(ids(set), []string{"b", "c"}) {
		t.Errorf("the set is %v", ids(set))
	}
}

func testServices(t *sourceTrial) {
	list := func() []string {
		names, err := t.driver.Services(watchtest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := list(); len(names) != 0 {
		t.Errorf("there are services %v", names)
	}
	var many []string
	for i := range pageSize + 200 {
		many = append(many, fmt.Sprintf("i%05d", i))
	}
	t.put("user", many...)
	t.put("a", "1", "2")
	t.put("user-admin", many...)
	t.put("z", "1")
	t.put("bad name", "1") // no query can have this name
	if _, err := t.operator.Put(watchtest.Context(t), t.driver.settings.Prefix+"stray", "x"); err != nil {
		t.Fatal(err)
	}
	if names := list(); !slices.Equal(names, []string{"a", "user-admin", "user", "z"}) {
		t.Errorf("the services are %v", names)
	}
}

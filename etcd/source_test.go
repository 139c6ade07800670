package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSourceOnAnEtcd(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
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
		"the store began again":         testStoreBeganAgain,
		"silence":                       testSilence,
		"the caller's context":          testTheCallersContext,
		"an error and afresh":           testAfreshAfterAnError,
		"services":                      testServices,
		"watch from a forgotten change": testForgottenChange,
	} {
		t.Run(name, func(t *testing.T) {
			way := newNetwork(t, server.Addr())
			prefix := fmt.Sprintf("/p-%d/", time.Now().UnixNano())
			d := driverFor(t, Config{Endpoints: []string{way.addr()}, Prefix: prefix})
			t.Cleanup(func() { d.Close() })
			source := d.Follow(registry.Query{Service: "user"})
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
}

func (t *sourceTrial) next() []*registry.Instance {
	t.Helper()
	set, err := t.source.Next(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	return set
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
		if _, err := t.operator.Txn(within(t, patience)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func (t *sourceTrial) putValue(service, id, value string) {
	t.Helper()
	if _, err := t.operator.Put(within(t, patience), t.driver.keyOf(service, id), value); err != nil {
		t.Fatal(err)
	}
}

func (t *sourceTrial) delete(service, id string) {
	t.Helper()
	if _, err := t.operator.Delete(within(t, patience), t.driver.keyOf(service, id)); err != nil {
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
	set, err := t.source.Next(within(t, patience))
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
		t.Error("what did not change has another pointer")
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
	if n := t.driver.CountUnreadable(); n != 9 {
		t.Errorf("%d values are said to be unreadable", n)
	}
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
	if n := t.driver.CountUnreadable(); n != 0 {
		t.Errorf("%d values of others were read", n)
	}
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
		t.Error("what was written again with the same content has another pointer")
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
		if _, err := t.operator.Txn(within(t, patience)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	t.wantNext("0", "1", "2", "3", "4")
}

func testListLargerThanTheWindow(t *sourceTrial) {
	const each = 1 << 20
	var want []string
	for i := range 2*window/each + 1 {
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
	got, err := t.operator.Get(within(t, patience), "x")
	if err == nil {
		_, err = t.operator.Compact(within(t, patience), got.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.wantNext("a")
	t.put("user", "b")
	t.wantNext("a", "b")
}

func testForgottenChange(t *sourceTrial) {
	for range 3 {
		t.put("user", "a")
	}
	got, err := t.operator.Get(within(t, patience), "x")
	if err == nil {
		_, err = t.operator.Compact(within(t, patience), got.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.wantNext("a")
	s := t.source.(*source)
	s.Close()
	w, err := t.driver.watchFrom(within(t, patience), "watch", s.prefix, prefixEnd(s.prefix), got.Header.Revision-2)
	if err != nil {
		t.Fatal(err)
	}
	s.watch = w
	t.wantError(registry.ErrUnavailable)
	t.wantNext("a")
}

func testStoreBeganAgain(t *sourceTrial) {
	t.put("user", "a")
	t.wantNext("a")
	w := t.source.(*source).watch
	w.newest.Add(1000) // as it was before the store was restored
	w.stream.look(t.Context(), t.driver)
	t.wantError(registry.ErrUnavailable)
	t.wantNext("a")
}

// A watch that is silent because nothing happens passes for nothing else.
func testSilence(t *sourceTrial) {
	t.put("user", "a")
	t.wantNext("a")
	before := t.source.(*source).watch
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	defer lookOften(ctx, t.driver, before.stream)()
	if _, err := t.source.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if before.stream.carrier.Context().Err() == nil {
		t.Error("the watch that was given up still runs")
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

func testAfreshAfterAnError(t *sourceTrial) {
	t.put("user", "a", "b")
	t.wantNext("a", "b")
	t.way.cut()
	t.wantError(registry.ErrUnavailable)
	t.wantError(registry.ErrUnavailable)
	t.delete("user", "a")
	t.put("user", "c")
	t.way.heal()
	var set []*registry.Instance
	eventually(t, "it is read again", func() (ok bool) {
		var err error
		set, err = t.source.Next(within(t, patience))
		return err == nil
	})
	if !slices.Equal(ids(set), []string{"b", "c"}) {
		t.Errorf("the set is %v", ids(set))
	}
}

func testServices(t *sourceTrial) {
	list := func() []string {
		names, err := t.driver.Services(within(t, patience))
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
	t.put("bad name", "1") // nobody can ask for it
	if _, err := t.operator.Put(within(t, patience), t.driver.settings.Prefix+"stray", "x"); err != nil {
		t.Fatal(err)
	}
	if names := list(); !slices.Equal(names, []string{"a", "user-admin", "user", "z"}) {
		t.Errorf("the services are %v", names)
	}
}

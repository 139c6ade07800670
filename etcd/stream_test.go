package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// streamCounter counts the streams that watches go over, and the reads.
type streamCounter struct{ begun, ended, reads atomic.Int64 }

type isWatch struct{}

func (c *streamCounter) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if strings.HasSuffix(info.FullMethodName, "/Range") {
		c.reads.Add(1)
	}
	if strings.HasSuffix(info.FullMethodName, "/Watch") {
		return context.WithValue(ctx, isWatch{}, true)
	}
	return ctx
}

func (c *streamCounter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ctx.Value(isWatch{}) == nil {
		return
	}
	switch s.(type) {
	case *stats.Begin:
		c.begun.Add(1)
	case *stats.End:
		c.ended.Add(1)
	}
}

func (c *streamCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}
func (c *streamCounter) HandleConn(context.Context, stats.ConnStats) {}

// streamTrial is a driver whose streams are counted, and sources of it.
type streamTrial struct {
	*testing.T
	*streamCounter
	driver   *driver
	operator *clientv3.Client
}

func newStreamTrial(t *testing.T) *streamTrial {
	server := testbed.StartEtcd(t)
	c := new(streamCounter)
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}}, grpc.WithStatsHandler(c))
	t.Cleanup(func() { d.Close() })
	return &streamTrial{t, c, d, operatorOf(t, server)}
}

// follow returns a source of service s that has its first set, of n instances.
func (t *streamTrial) follow(s string, n int) *source {
	t.Helper()
	src := t.driver.Follow(registry.Query{Service: s}).(*source)
	t.Cleanup(func() { src.Close() })
	t.holds(src, n)
	return src
}

func (t *streamTrial) holds(src *source, n int) {
	t.Helper()
	if set, err := src.Next(within(t, patience)); err != nil || len(set) != n {
		t.Fatalf("%s: %d instances, %v, want %d", src.service, len(set), err, n)
	}
}

func (t *streamTrial) put(s, id string) {
	t.Helper()
	if _, err := t.operator.Put(within(t, patience), DefaultPrefix+s+"/"+id, `{"address":"10.0.0.1:80"}`); err != nil {
		t.Fatal(err)
	}
}

func (t *streamTrial) wantBegun(n int64) {
	t.Helper()
	if got := t.begun.Load(); got != n {
		t.Errorf("%d streams were begun, want %d", got, n)
	}
}

func TestWatchesShareAStream(tt *testing.T) {
	t := newStreamTrial(tt)
	var all []*source
	for i := range 100 {
		all = append(all, t.follow(fmt.Sprint("s", i), 0))
	}
	for i, src := range all {
		t.put(src.service, "a")
		t.holds(src, 1)
		if i < len(all)-1 {
			src.Close()
		}
	}
	t.wantBegun(1)
	last := all[len(all)-1]
	t.put(last.service, "b")
	t.holds(last, 2)
	if n := t.ended.Load(); n != 0 {
		t.Errorf("%d streams have ended while there is a watch", n)
	}
	last.Close()
	eventually(t, "the stream ends with the last watch", func() bool { return t.ended.Load() == 1 })
	t.follow("another", 0)
	t.wantBegun(2)
}

// A watch that etcd refuses is not the end of its neighbours; and a stream that a watch has failed on, for whatever reason,
// gets no more of them.
func TestAWatchFailsAlone(tt *testing.T) {
	t := newStreamTrial(tt)
	neighbour, failing := t.follow("neighbour", 0), t.follow("failing", 0)
	t.put("neighbour", "a")
	t.holds(neighbour, 1)
	now, err := t.operator.Get(within(t, patience), "x")
	if err == nil {
		_, err = t.operator.Compact(within(t, patience), now.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	failing.watch.close()
	if failing.watch, err = t.driver.watchFrom(within(t, patience), "watch", failing.prefix, prefixEnd(failing.prefix), 1); err != nil {
		t.Fatal(err)
	}
	_, err = failing.Next(within(t, patience))
	wantKind(t.T, err, registry.ErrUnavailable)
	t.wantBegun(1)
	neighbour.watch.stream.probe(0)
	if _, ok, err := neighbour.wait(within(t, patience), patience); !ok || err != nil {
		t.Errorf("the neighbour gets no sign of life: %v", err)
	}
	t.holds(failing, 0)
	t.wantBegun(2)
	for _, src := range []*source{neighbour, failing} {
		t.put(src.service, "b")
	}
	t.holds(neighbour, 2)
	t.holds(failing, 1)
	if n := t.ended.Load(); n != 0 {
		t.Errorf("%d streams have ended, with a watch on each", n)
	}
}

// etcd says in the order of the requests which number a watch has, and one may be closed before.
func TestNumbersOfWatches(t *testing.T) {
	d := driverFor(t, Config{})
	defer d.Close()
	st := &stream{watches: map[int64]*watch{}, wake: make(chan struct{}, 1), cancel: func() {}}
	newWatch := func() *watch {
		w := &watch{d: d, what: "watch", ready: make(chan struct{}, 1)}
		st.add(w, new(pb.WatchCreateRequest))
		return w
	}
	closed, open := newWatch(), newWatch()
	closed.close()
	st.requests = nil
	tell := func(a *pb.WatchResponse) {
		st.mu.Lock()
		defer st.mu.Unlock()
		a.Header = header(7)
		st.dispatch(a)
	}
	tell(&pb.WatchResponse{Created: true, WatchId: 5})
	if len(st.requests) != 1 || st.requests[0].GetCancelRequest().GetWatchId() != 5 {
		t.Errorf("it asked for %v, and not for the end of what was closed", st.requests)
	}
	tell(&pb.WatchResponse{Created: true, WatchId: 6})
	tell(&pb.WatchResponse{WatchId: 5, Events: []*mvccpb.Event{event("x", "of the one that was closed")}})
	tell(&pb.WatchResponse{WatchId: everyWatch})
	tell(&pb.WatchResponse{WatchId: 6, Events: []*mvccpb.Event{event("x", "y")}})
	for i, want := range []int{0, 0, 1} { // that it was created, a sign of life, an event
		changes, ok, err := open.poll(t.Context())
		if !ok || err != nil || len(changes) != want {
			t.Errorf("%d: %v, %v, %v, want %d changes", i, changes, ok, err, want)
		}
	}
	if changes, ok, err := open.poll(t.Context()); ok || err != nil {
		t.Errorf("and then %v, %v", changes, err)
	}
}

// What nobody asks for is not kept without end.
func TestAWatchThatNobodyReads(t *testing.T) {
	d := driverFor(t, Config{})
	defer d.Close()
	w := &watch{d: d, what: "watch", stream: new(stream), ready: make(chan struct{}, 1)}
	for range farBehind + 1 {
		w.take(&pb.WatchResponse{Header: header(7)})
	}
	_, ok, err := w.poll(t.Context())
	if ok || len(w.answers) > 0 {
		t.Error("it kept them")
	}
	wantKind(t, err, registry.ErrUnavailable)
}

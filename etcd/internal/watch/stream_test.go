package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// streamCounter counts the streams of watches, and the reads.
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

// streamTrial is a connection whose streams are counted.
type streamTrial struct {
	*testing.T
	*streamCounter
	conn     *conn.Conn
	streams  *Streams
	operator *clientv3.Client
}

func newStreamTrial(t *testing.T) *streamTrial {
	server := testbed.StartEtcd(t)
	counter := new(streamCounter)
	c, streams := connect(t, server.Addr(), grpc.WithStatsHandler(counter))
	return &streamTrial{t, counter, c, streams, etcdtest.Operator(t, server)}
}

// follow returns a reader of service s that has read n entries.
func (t *streamTrial) follow(s string, n int) *reader {
	t.Helper()
	r := newReader(t.streams, s)
	t.Cleanup(r.close)
	t.wantNext(r, n)
	return r
}

func (t *streamTrial) wantNext(src *reader, n int) {
	t.Helper()
	if got, err := src.next(watchtest.Context(t)); err != nil || got != n {
		t.Fatalf("%s: %d entries, %v, want %d", src.service, got, err, n)
	}
}

func (t *streamTrial) put(s, id string) {
	t.Helper()
	if _, err := t.operator.Put(watchtest.Context(t), prefix+s+"/"+id, `{"address":"10.0.0.1:80"}`); err != nil {
		t.Fatal(err)
	}
}

func (t *streamTrial) wantBegun(n int64) {
	t.Helper()
	if got := t.begun.Load(); got != n {
		t.Errorf("%d streams were begun, want %d", got, n)
	}
}

func TestWatch_AllShareAStream(tt *testing.T) {
	t := newStreamTrial(tt)
	var all []*reader
	for i := range 100 {
		all = append(all, t.follow(fmt.Sprint("s", i), 0))
	}
	for i, src := range all {
		t.put(src.service, "a")
		t.wantNext(src, 1)
		if i < len(all)-1 {
			src.close()
		}
	}
	t.wantBegun(1)
	last := all[len(all)-1]
	t.put(last.service, "b")
	t.wantNext(last, 2)
	if n := t.ended.Load(); n != 0 {
		t.Errorf("%d streams have ended while a watch is open", n)
	}
	last.close()
	watchtest.Eventually(t, "the stream ends with the last watch", func() bool { return t.ended.Load() == 1 })
	t.follow("another", 0)
	t.wantBegun(2)
}

// A watch that etcd refuses does not end the others of its stream, but new watches use another stream.
func TestWatch_FailsAlone(tt *testing.T) {
	t := newStreamTrial(tt)
	neighbour, failing := t.follow("neighbour", 0), t.follow("failing", 0)
	t.put("neighbour", "a")
	t.wantNext(neighbour, 1)
	now, err := t.operator.Get(watchtest.Context(t), "x")
	if err == nil {
		_, err = t.operator.Compact(watchtest.Context(t), now.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	failing.watch.Close()
	if failing.watch, err = t.streams.Watch(watchtest.Context(t), "watch", failing.prefix, format.PrefixEnd(failing.prefix), 1); err != nil {
		t.Fatal(err)
	}
	_, err = failing.next(watchtest.Context(t))
	etcdtest.WantKind(t.T, err, registry.ErrUnavailable)
	t.wantBegun(1)
	neighbour.watch.stream.probe(0)
	if _, ok, err := neighbour.watch.wait(watchtest.Context(t), watchtest.Timeout); !ok || err != nil {
		t.Errorf("etcd reports no progress to the other watch: %v", err)
	}
	t.wantNext(failing, 0)
	t.wantBegun(2)
	for _, src := range []*reader{neighbour, failing} {
		t.put(src.service, "b")
	}
	t.wantNext(neighbour, 2)
	t.wantNext(failing, 1)
	if n := t.ended.Load(); n != 0 {
		t.Errorf("%d streams have ended, with a watch on each", n)
	}
}

// numbering is a stream whose answers come from a test.
type numbering struct {
	*testing.T
	streams *Streams
	stream  *stream
}

func newNumbering(t *testing.T) *numbering {
	_, streams := connect(t, "127.0.0.1:2379")
	st := newStream(nil, func() {}, watchtest.Timeout)
	t.Cleanup(func() {
		st.mu.Lock()
		st.end(nil)
		st.mu.Unlock()
	})
	return &numbering{t, streams, st}
}

func (t *numbering) watch(key string) *Watch {
	w := t.streams.unopened("watch", key, "", 0)
	t.stream.add(w)
	return w
}

// asked returns the numbers of the watches that were requested since the last call, and of the watches whose end was requested.
func (t *numbering) asked() (created, ended []int64) {
	t.stream.mu.Lock()
	defer t.stream.mu.Unlock()
	for _, r := range t.stream.requests {
		if c := r.GetCreateRequest(); c != nil {
			created = append(created, c.WatchId)
		}
		if c := r.GetCancelRequest(); c != nil {
			ended = append(ended, c.WatchId)
		}
	}
	t.stream.requests = nil
	return created, ended
}

// tell makes the stream dispatch an answer.
func (t *numbering) tell(a *pb.WatchResponse) error {
	if a.Header == nil {
		a.Header = etcdtest.Header(7)
	}
	if err := conn.CheckWatch(a); err != nil {
		return err
	}
	t.stream.mu.Lock()
	defer t.stream.mu.Unlock()
	return t.stream.dispatch(a)
}

func (t *numbering) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A server that chooses the numbers may answer in any order, so it gets one request at a time. A watch may be closed before its answer.
func TestStream_OneRequestAtATimeIfTheServerChoosesNumbers(tt *testing.T) {
	t := newNumbering(tt)
	closed, open, third := t.watch("x"), t.watch("x"), t.watch("x")
	if created, _ := t.asked(); len(created) != 1 {
		t.Fatalf("%d requests are on their way before the first answer", len(created))
	}
	closed.Close()
	t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: 5}))
	if created, ended := t.asked(); len(created) != 1 || !slices.Equal(ended, []int64{5}) {
		t.Errorf("it asked for %v, and for the end of %v", created, ended)
	}
	t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: 6}))
	if created, _ := t.asked(); len(created) != 1 || third.created {
		t.Errorf("after another answer it asked for %v", created)
	}
	t.must(t.tell(&pb.WatchResponse{WatchId: 5, Events: []*mvccpb.Event{etcdtest.Event("x", "for the closed watch")}}))
	t.must(t.tell(&pb.WatchResponse{WatchId: conn.EveryWatch}))
	t.must(t.tell(&pb.WatchResponse{WatchId: 6, Events: []*mvccpb.Event{etcdtest.Event("x", "y")}}))
	for i, want := range []int{0, 0, 1} { // created, progress, an event
		changes, ok, err := open.Poll(t.Context())
		if !ok || err != nil || len(changes) != want {
			t.Errorf("%d: %v, %v, %v, want %d changes", i, changes, ok, err, want)
		}
	}
	if changes, ok, err := open.Poll(t.Context()); ok || err != nil {
		t.Errorf("and then %v, %v", changes, err)
	}
}

// A server that uses the numbers of the client gets all requests at once, and may refuse one of them without a number.
func TestStream_RequestsAtOnceIfTheServerUsesItsNumbers(tt *testing.T) {
	t := newNumbering(tt)
	var all []*Watch
	for i := range 4 {
		all = append(all, t.watch(fmt.Sprint("k", i)))
	}
	first, _ := t.asked()
	t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: first[0]}))
	rest, _ := t.asked()
	if len(rest) != 3 {
		t.Fatalf("it asked for %v", rest)
	}
	t.must(t.tell(&pb.WatchResponse{Created: true, Canceled: true, WatchId: conn.EveryWatch, CancelReason: "refused"}))
	if all[1].answers == nil || len(all[2].answers)+len(all[3].answers) > 0 {
		t.Error("the refusal is not for the oldest request")
	}
	t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: rest[2]})) // out of order
	t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: rest[1]}))
	for i, id := range map[int]int64{0: first[0], 2: rest[1], 3: rest[2]} {
		t.must(t.tell(&pb.WatchResponse{WatchId: id, Events: []*mvccpb.Event{etcdtest.Event(all[i].key, "")}}))
	}
}

func TestStream_EndsIfTheServerConfusesWatches(tt *testing.T) {
	for name, a := range map[string]*pb.WatchResponse{
		"an event of another key":   {WatchId: 3, Events: []*mvccpb.Event{etcdtest.Event("y", "")}},
		"an event of a longer key":  {WatchId: 3, Events: []*mvccpb.Event{etcdtest.Event("xx", "")}},
		"an event of no key":        {WatchId: 3, Events: []*mvccpb.Event{etcdtest.Event("", "")}},
		"an unknown number":         {WatchId: 4},
		"a negative number":         {WatchId: -2},
		"created, and not asked":    {WatchId: 4, Created: true},
		"the end of all watches":    {WatchId: conn.EveryWatch, Canceled: true},
		"events for all watches":    {WatchId: conn.EveryWatch, Events: []*mvccpb.Event{etcdtest.Event("x", "")}},
		"created with an event":     {WatchId: 3, Created: true, Events: []*mvccpb.Event{etcdtest.Event("y", "")}},
		"an event without an entry": {WatchId: 3, Events: []*mvccpb.Event{{}}},
		"an event of another type":  {WatchId: 3, Events: []*mvccpb.Event{{Type: 7, Kv: etcdtest.Event("x", "").Kv}}},
		"an empty fragment":         {WatchId: 3, Fragment: true},
		"a negative revision":       {WatchId: 3, Header: etcdtest.Header(-1)},
	} {
		tt.Run(name, func(tt *testing.T) {
			t := newNumbering(tt)
			t.watch("x")
			t.must(t.tell(&pb.WatchResponse{Created: true, WatchId: 3}))
			if err := t.tell(a); err == nil {
				t.Error("it goes on")
			}
		})
	}
}

// A request that is never answered would block the requests behind it.
func TestStream_EndsIfARequestIsNotAnswered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newStream(nil, func() {}, 5*time.Second)
		var all []*Watch
		for range 2 {
			w := &Watch{what: "watch", ready: make(chan struct{}, 1)}
			st.add(w)
			all = append(all, w)
		}
		for _, w := range all {
			<-w.ready
			if w.err != conn.ErrLate || !st.late.Load() {
				t.Errorf("the watch ended with %v", w.err)
			}
		}
	})
}

func TestWatch_BoundsUnreadAnswers(t *testing.T) {
	_, streams := connect(t, "127.0.0.1:2379")
	w := streams.unopened("watch", "", "", 0)
	w.stream = new(stream)
	for range maxAnswers + 1 {
		w.enqueue(&pb.WatchResponse{Header: etcdtest.Header(7)})
	}
	_, ok, err := w.Poll(t.Context())
	if ok || len(w.answers) > 0 {
		t.Error("the answers are kept")
	}
	etcdtest.WantKind(t, err, registry.ErrUnavailable)
}

// The watches of a stream share one bound, also for parts of revisions that never become complete.
func TestStream_FragmentsOfAllWatchesShareTheBound(t *testing.T) {
	_, streams := connect(t, "127.0.0.1:2379")
	st := newStream(nil, func() {}, time.Minute)
	var all []*Watch
	for range 4 {
		w := streams.unopened("watch", "x", "", 0)
		w.stream = st
		st.open++
		all = append(all, w)
	}
	part := &pb.WatchResponse{Header: etcdtest.Header(7), Fragment: true, Events: []*mvccpb.Event{etcdtest.Event("x", strings.Repeat("x", 1<<20))}}
	kept, failed := 0, 0
	for range 2 * maxQueue >> 20 {
		for _, w := range all {
			st.mu.Lock()
			w.enqueue(part)
			st.mu.Unlock()
			if _, _, err := w.Poll(t.Context()); err != nil {
				etcdtest.WantKind(t, err, registry.ErrUnavailable)
			}
		}
	}
	for _, w := range all {
		if w.err != nil {
			failed++
		} else {
			kept += len(w.changes)
		}
	}
	if kept > maxQueue>>20 || failed == 0 {
		t.Errorf("they keep %d MiB, and %d of %d have failed", kept, failed, len(all))
	}
	for _, w := range all {
		w.Close()
	}
	if st.queued != 0 {
		t.Errorf("%d bytes are counted without an answer", st.queued)
	}
}

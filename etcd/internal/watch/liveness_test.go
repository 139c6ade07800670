package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// checkOften checks the watches of w's stream until ctx ends. It returns a function that waits for that.
func checkOften(ctx context.Context, w *Watch) (wait func()) {
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			w.CheckLiveness(ctx)
			time.Sleep(10 * time.Millisecond)
		}
	})
	return work.Wait
}

// staysIdle checks src many times, and for longer than etcd may take to report progress.
func (t *streamTrial) staysIdle(src *reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*t.conn.Timeout)
	defer cancel()
	defer checkOften(ctx, src.watch)()
	n, err := src.next(ctx)
	deadline, _ := ctx.Deadline()
	// The deadline of a call that is in flight may fire a moment before the deadline of ctx.
	if left := time.Until(deadline); !errors.Is(err, context.DeadlineExceeded) || left > t.conn.Timeout/2 {
		t.Errorf("%d entries, %v, %v before the deadline", n, err, left)
	}
}

// If nothing is written, etcd reports no progress to a new watch, and the watch cannot have missed anything.
func TestReceive_IdleStore(tt *testing.T) {
	t := newStreamTrial(tt)
	src := t.follow("idle", 0)
	t.conn.Timeout = 3 * time.Second
	t.staysIdle(src)
	t.wantBegun(1)
}

// One read is for all watches, and none is woken by it if nothing was written.
func TestCheckLiveness_OneReadForAllWatches(tt *testing.T) {
	t := newStreamTrial(tt)
	var all []*reader
	for i := range 50 {
		src := t.follow(fmt.Sprint("s", i), 0)
		watchtest.Eventually(tt, "the watch is there", func() bool { _, ok, _ := src.watch.Poll(t.Context()); return ok })
		all = append(all, src)
	}
	st, before := all[0].watch.stream, t.reads.Load()
	const checks = 3
	for range checks {
		st.checkLiveness(t.Context(), t.streams)
	}
	for _, src := range all {
		if _, unverified := src.watch.takeUnverified(); unverified {
			t.Errorf("%s is unverified", src.service)
		}
	}
	if n := t.reads.Load() - before; n != checks {
		t.Errorf("%d checks of %d watches made %d reads", checks, len(all), n)
	}

	t.put("elsewhere", "a")
	st.checkLiveness(t.Context(), t.streams)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for _, src := range all {
		work.Go(func() {
			if _, err := src.next(ctx); err != context.Canceled {
				t.Errorf("%s: %v", src.service, err)
			}
		})
	}
	now, err := t.streams.revision(watchtest.Context(tt), "test", prefix)
	if err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(tt, "etcd has reported progress to all", func() bool {
		return !slices.ContainsFunc(all, func(src *reader) bool { return src.watch.newest.Load() < now })
	})
	cancel()
	work.Wait()
	// One by the check, one for all unverified watches, and one by the test.
	if n := t.reads.Load() - before - checks; n != 3 {
		t.Errorf("%d unverified watches made %d reads", len(all), n)
	}
	t.wantBegun(1)
}

// A stream without a supervised watch reads nothing.
func TestCheckLiveness_SkipsUnsupervisedWatches(tt *testing.T) {
	t := newStreamTrial(tt)
	w, err := t.streams.Watch(watchtest.Context(tt), "watch", prefix+"s/a", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	w.CheckLiveness(t.Context())
	if n := t.reads.Load(); n != 0 {
		t.Errorf("%d reads", n)
	}
	if _, unverified := w.takeUnverified(); unverified {
		t.Error("it is unverified")
	}
}

func TestSupervise_ChecksAgainAndAgain(tt *testing.T) {
	t := newStreamTrial(tt)
	t.streams.every = 10 * time.Millisecond
	src := t.follow("s", 0)
	for range 3 {
		src.watch.newest.Add(1000) // as it was before the store was restored
		_, err := src.next(watchtest.Context(tt))
		etcdtest.WantKind(tt, err, registry.ErrUnavailable)
		t.wantNext(src, 0)
	}
}

// A watch that etcd has not answered yet is checked as well, and an answer verifies it.
func TestCheckLiveness_AnswerVerifiesTheWatch(t *testing.T) {
	_, streams := connect(t, startUnresponsive(t, 7))
	w, err := streams.Watch(watchtest.Context(t), "watch", "s/", "s0", 7)
	if err != nil {
		t.Fatal(err)
	}
	w.Supervise()
	w.CheckLiveness(t.Context()) // the store is at 7, and the watch at 6
	w.stream.mu.Lock()
	if w.unverified.IsZero() {
		t.Error("it is not unverified")
	}
	w.enqueue(&pb.WatchResponse{Header: etcdtest.Header(7)})
	w.stream.mu.Unlock()
	if _, unverified := w.takeUnverified(); unverified {
		t.Error("it is still unverified")
	}
}

// While a new watch waits for the next revision, etcd reports no progress on the stream.
func TestReceive_NoProgressBesideANewWatch(tt *testing.T) {
	t := newStreamTrial(tt)
	src := t.follow("idle", 0)
	t.put("another", "a")
	t.follow("another", 1)
	t.conn.Timeout = 3 * time.Second
	src.watch.CheckLiveness(t.Context())
	t.wantNext(src, 0) // read again, without an error
	t.wantBegun(2)
	t.staysIdle(src)
	t.wantBegun(2)
}

// If one watch requests progress, etcd reports it to all, and another one notices that the store was restored.
func TestReceive_ProgressOfARestoredStore(tt *testing.T) {
	t := newStreamTrial(tt)
	asks, hears := t.follow("asks", 0), t.follow("hears", 0)
	t.put("hears", "a")
	t.wantNext(hears, 1)
	hears.watch.newest.Add(1000) // as it was before the store was restored
	asks.watch.stream.probe(0)
	_, err := hears.next(watchtest.Context(t))
	etcdtest.WantKind(t.T, err, registry.ErrUnavailable)
	t.wantNext(hears, 1)
}

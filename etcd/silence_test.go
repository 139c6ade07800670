package etcd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/registry"
)

// lookOften looks at the watches of st until ctx ends, which what it returns waits for.
func lookOften(ctx context.Context, d *driver, st *stream) (wait func()) {
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			st.look(ctx, d)
			time.Sleep(10 * time.Millisecond)
		}
	})
	return work.Wait
}

// staysSilent looks into the silence of src many times, and for longer than a sign of life may take.
func (t *streamTrial) staysSilent(src *source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*t.driver.settings.Timeout)
	defer cancel()
	defer lookOften(ctx, t.driver, src.watch.stream)()
	if set, err := src.Next(ctx); err != context.DeadlineExceeded {
		t.Errorf("%d instances, %v", len(set), err)
	}
}

// Where nothing is written, etcd gives no sign of life to a watch of what comes next, and nothing can have been missed.
func TestSilenceWithoutAWrite(tt *testing.T) {
	t := newStreamTrial(tt)
	src := t.follow("silent", 0)
	t.driver.settings.Timeout = 3 * time.Second
	t.staysSilent(src)
	t.wantBegun(1)
}

// One read is for all watches, and none is woken by it while nothing was written.
func TestACrowdOfSilentWatches(tt *testing.T) {
	t := newStreamTrial(tt)
	var all []*source
	for i := range 50 {
		src := t.follow(fmt.Sprint("s", i), 0)
		eventually(tt, "the watch is there", func() bool { _, ok, _ := src.watch.poll(t.Context()); return ok })
		all = append(all, src)
	}
	st, before := all[0].watch.stream, t.reads.Load()
	const looks = 3
	for range looks {
		st.look(t.Context(), t.driver)
	}
	for _, src := range all {
		if _, doubted := src.watch.doubted(); doubted {
			t.Errorf("%s is doubted", src.service)
		}
	}
	if n := t.reads.Load() - before; n != looks {
		t.Errorf("%d looks at %d watches made %d reads", looks, len(all), n)
	}

	t.put("elsewhere", "a")
	st.look(t.Context(), t.driver)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for _, src := range all {
		work.Go(func() {
			if _, err := src.Next(ctx); err != context.Canceled {
				t.Errorf("%s: %v", src.service, err)
			}
		})
	}
	now, err := t.driver.revision(within(tt, patience), "test", DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	eventually(tt, "all have had a sign of life", func() bool {
		return !slices.ContainsFunc(all, func(src *source) bool { return src.watch.newest.Load() < now })
	})
	cancel()
	work.Wait()
	// The look, one for all that were in doubt, and that of the test.
	if n := t.reads.Load() - before - looks; n != 3 {
		t.Errorf("%d watches in doubt made %d reads", len(all), n)
	}
	t.wantBegun(1)
}

// Nothing is read for a stream that carries no watch of a service.
func TestNobodyAsksForSilence(tt *testing.T) {
	t := newStreamTrial(tt)
	w, err := t.driver.watchFrom(within(tt, patience), "watch", DefaultPrefix+"s/a", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	w.stream.look(t.Context(), t.driver)
	if n := t.reads.Load(); n != 0 {
		t.Errorf("%d reads", n)
	}
	if _, doubted := w.doubted(); doubted {
		t.Error("it is doubted")
	}
}

// The stream looks by itself, again and again.
func TestAStreamIsOverseen(tt *testing.T) {
	t := newStreamTrial(tt)
	t.driver.silence = 10 * time.Millisecond
	src := t.follow("s", 0)
	for range 3 {
		src.watch.newest.Add(1000) // as it was before the store was restored
		_, err := src.Next(within(tt, patience))
		wantKind(tt, err, registry.ErrUnavailable)
		t.holds(src, 0)
	}
}

// What comes dispels the doubt before it; and a watch that etcd has not answered yet may hang as any other.
func TestDoubt(t *testing.T) {
	d, _ := (&fake{revision: 7}).follow(t)
	w, err := d.watchFrom(within(t, patience), "watch", "s/", "s0", 7)
	if err != nil {
		t.Fatal(err)
	}
	w.oversee()
	w.stream.look(t.Context(), d) // the store is at 7, and the watch at 6
	w.stream.mu.Lock()
	if w.doubt.IsZero() {
		t.Error("it is not doubted")
	}
	w.take(&pb.WatchResponse{Header: header(7)})
	w.stream.mu.Unlock()
	if _, doubted := w.doubted(); doubted {
		t.Error("it is doubted still")
	}
}

// A watch of what comes next keeps signs of life from all that share its stream.
func TestSilenceBesideANewWatch(tt *testing.T) {
	t := newStreamTrial(tt)
	src := t.follow("silent", 0)
	t.put("another", "a")
	t.follow("another", 1)
	t.driver.settings.Timeout = 3 * time.Second
	src.watch.stream.look(t.Context(), t.driver)
	t.holds(src, 0) // read anew, without an error
	t.wantBegun(2)
	t.staysSilent(src)
	t.wantBegun(2)
}

// What one watch asks for, all others hear, and learn from.
func TestASignOfLifeOfAStoreThatBeganAgain(tt *testing.T) {
	t := newStreamTrial(tt)
	asks, hears := t.follow("asks", 0), t.follow("hears", 0)
	t.put("hears", "a")
	t.holds(hears, 1)
	hears.watch.newest.Add(1000) // as it was before the store was restored
	asks.watch.stream.probe(0)
	_, err := hears.Next(within(t, patience))
	wantKind(t.T, err, registry.ErrUnavailable)
	t.holds(hears, 1)
}

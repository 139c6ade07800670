package agent

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/sleep"
)

func TestLimiter_QueuesInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newLimiter(func() {})
		enter := func() Slot {
			p, err := c.Acquire(t.Context(), Watch)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		var in []Slot
		for i := range longWatches + briefWatches {
			p := enter()
			if p.IsBrief() {
				t.Fatalf("no call queues, and slot %d is brief", i)
			}
			in = append(in, p)
		}
		var order []int
		var work sync.WaitGroup
		for i := range 3 {
			work.Go(func() {
				p := enter()
				order = append(order, i)
				p.Release(http.StatusOK, 1)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		work.Go(func() {
			if _, err := c.Acquire(ctx, Watch); !errors.Is(err, context.Canceled) {
				t.Errorf("a call that gave up got %v", err)
			}
		})
		synctest.Wait()
		if len(order) != 0 {
			t.Fatal("there was a slot for more")
		}
		cancel()
		in[len(in)-1].Release(http.StatusOK, 1)
		work.Wait()
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("they began in the order %v", order)
		}
		if q, err := c.Acquire(t.Context(), Lookup); err != nil || q.IsBrief() {
			t.Errorf("a read that does not wait got %+v, %v", q, err)
		}
	})
}

func TestLimiter_AdaptsToRefusals(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		closed := 0
		c := newLimiter(func() { closed++ })
		time.Sleep(calmInterval)
		one := func(code, version int) {
			p, err := c.Acquire(t.Context(), Watch)
			if err != nil {
				t.Fatal(err)
			}
			p.Release(code, version)
		}
		var in []Slot
		for range longWatches {
			p, _ := c.Acquire(t.Context(), Watch)
			in = append(in, p)
		}
		in[0].Release(http.StatusTooManyRequests, 1)
		in[1].Release(http.StatusTooManyRequests, 1) // at once: it is the same refusal
		if c.classes[Watch].long.limit != longWatches/2 || closed != 1 {
			t.Errorf("after a refusal the limit is %d; idle connections were closed %d times", c.classes[Watch].long.limit, closed)
		}
		if n := c.classes[Write].long.limit; n != writes/2 {
			t.Errorf("after a refusal of a read %d writes may be in flight", n)
		}
		for _, p := range in[2:] {
			p.Release(http.StatusOK, 1)
		}
		for range 10 {
			time.Sleep(calmInterval)
			one(http.StatusTooManyRequests, 1)
		}
		for l := range c.all {
			if l.limit != min(1, l.most) {
				t.Errorf("after many it is %+v", l)
			}
		}
		for range longWatches + 10 {
			time.Sleep(calmInterval)
			one(http.StatusOK, 1)
		}
		for l := range c.all {
			if l.limit != l.most {
				t.Errorf("after as many successes it is %+v", l)
			}
		}
		one(http.StatusOK, 2)
		for range 10 * longWatches {
			if p, err := c.Acquire(t.Context(), Watch); err != nil || p.IsBrief() {
				t.Fatalf("over HTTP/2 it is %+v, %v", p, err)
			}
		}
		p, _ := c.Acquire(t.Context(), Watch)
		p.Release(http.StatusOK, 1)
		if p, err := c.Acquire(t.Context(), Watch); err != nil || p.slots != &c.classes[Watch].brief {
			t.Errorf("when it is HTTP/1.1 again, and the slots are taken, it is %+v, %v", p, err)
		}
	})
}

// watchers are watches that share a limiter. Nothing changes, so each read lasts for as long as its slot allows.
type watchers struct {
	mu     sync.Mutex
	reads  int
	latest time.Duration
}

// run makes the reads of one watch until ctx ends.
func (w *watchers) run(ctx context.Context, l *Limiter) {
	ended := time.Now()
	for ctx.Err() == nil {
		slot, err := l.Acquire(ctx, Watch)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.reads++
		w.latest = max(w.latest, time.Since(ended))
		w.mu.Unlock()
		sleep.For(ctx, slot.Wait(5*time.Minute))
		slot.Release(http.StatusOK, 1)
		ended = time.Now()
	}
}

// during returns how many reads began in d, and the longest time that a watch was without a read.
func (w *watchers) during(d time.Duration) (reads int, latest time.Duration) {
	w.mu.Lock()
	w.reads, w.latest = 0, 0
	w.mu.Unlock()
	time.Sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads, w.latest
}

func TestLimiter_WatchesWaitLongWhileThereAreSlots(t *testing.T) {
	for _, n := range []int{longWatches, 100, longWatches + briefWatches} {
		bubble.Test(t, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			l, w := newLimiter(func() {}), &watchers{}
			for range n {
				go w.run(ctx, l)
			}
			if reads, _ := w.during(10 * time.Minute); reads > 3*n {
				t.Errorf("%d watches made %d reads in 10 minutes, which is 3 waits", n, reads)
			}
			end()
		})
	}
}

func TestLimiter_WatchesTakeTurnsWhileOthersQueue(t *testing.T) {
	const n = 1000
	longest := n / briefWatches * BriefWait // that a watch is without a read
	bubble.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		l, w := newLimiter(func() {}), &watchers{}
		for range longWatches + briefWatches { // they wait long, since there are slots for all
			go w.run(ctx, l)
		}
		time.Sleep(time.Minute)
		for range n - longWatches - briefWatches {
			go w.run(ctx, l)
		}
		for minute := range 7 { // after five, the long waits have ended
			reads, latest := w.during(time.Minute)
			if most := 66 * briefWatches; reads > most {
				t.Errorf("minute %d: %d reads, want at most %d", minute, reads, most)
			}
			if latest > longest+4*BriefWait {
				t.Errorf("minute %d: a watch was %v without a read, want at most about %v", minute, latest, longest)
			}
		}
		end()
	})
}

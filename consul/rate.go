package consul

import (
	"context"
	"sync"
	"time"
)

// rate bounds the reads of all watches and lookups of a driver together: so many a second, and so many at once after a
// second without any.
type rate struct {
	every time.Duration // 0: no bound
	burst time.Duration

	mu   sync.Mutex
	next time.Time // when the next read would be due if all came evenly
}

func newRate(perSecond int) *rate {
	if perSecond == 0 {
		return &rate{}
	}
	return &rate{every: time.Second / time.Duration(perSecond), burst: time.Second}
}

// wait blocks until a read may be made. Reads are made in the order in which they were asked for.
func (r *rate) wait(ctx context.Context) error {
	if r.every == 0 {
		return nil
	}
	r.mu.Lock()
	now := time.Now()
	if earliest := now.Add(r.every - r.burst); r.next.Before(earliest) {
		r.next = earliest
	}
	due := r.next
	r.next = due.Add(r.every)
	r.mu.Unlock()
	if !due.After(now) {
		return nil
	}
	t := time.NewTimer(due.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.next = r.next.Add(-r.every) // nothing was read: whoever asks next has this turn
		return ctx.Err()
	}
}

package registry

import (
	"context"
	"sync"
	"time"
)

// rateLimit limits the reads of all watches and lookups of a Registry together to Options.Rate reads a second, with a burst of the same
// number after an idle second. A nil *rateLimit limits nothing.
type rateLimit struct {
	interval time.Duration

	mu   sync.Mutex
	next time.Time // when the next read would be due if all came evenly
}

// newRateLimit returns nil for 0.
func newRateLimit(perSecond int) *rateLimit {
	if perSecond == 0 {
		return nil
	}
	return &rateLimit{interval: time.Second / time.Duration(perSecond)}
}

// wait blocks until a read may be made. Reads are made in the order of their calls of wait.
func (l *rateLimit) wait(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if earliest := now.Add(l.interval - time.Second); l.next.Before(earliest) {
		l.next = earliest
	}
	due := l.next
	l.next = due.Add(l.interval)
	l.mu.Unlock()
	if !due.After(now) {
		return nil
	}
	t := time.NewTimer(due.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.next = l.next.Add(-l.interval) // nothing was read, so the next caller need not wait for it
		return ctx.Err()
	}
}

type rateLimitKey struct{}

// next calls src.Next as soon as the rate limit allows. The context has the limit, for a source that makes several reads: see
// [Failover].
func next[T any](ctx context.Context, limit *rateLimit, src interface {
	Next(context.Context) (T, error)
}) (read T, err error) {
	if limit == nil {
		return src.Next(ctx)
	}
	if err := limit.wait(ctx); err != nil {
		return read, err
	}
	return src.Next(context.WithValue(ctx, rateLimitKey{}, limit))
}

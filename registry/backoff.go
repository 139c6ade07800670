package registry

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spaces attempts that fail in a row: exponential, with equal jitter, so that a fleet that lost its registry at
// one instant does not come back at one instant, and nobody asks again at once.
type backoff struct {
	min, max time.Duration
	failures int
}

func (r *Registry) newBackoff() *backoff {
	return &backoff{min: r.opts.BackoffMin, max: r.opts.BackoffMax}
}

// wait blocks for the time that is due after one more failure. It reports whether ctx is still alive.
func (b *backoff) wait(ctx context.Context) bool {
	half := b.ceiling() / 2
	return sleep(ctx, half+rand.N(half+1))
}

// ceiling counts a failure and returns the longest wait that may follow it.
func (b *backoff) ceiling() time.Duration {
	ceiling := b.max
	if b.failures < 32 && b.min<<b.failures < b.max && b.min<<b.failures > 0 {
		ceiling = b.min << b.failures
	}
	b.failures++
	return ceiling
}

// stood says that what is attempted went well for d. Only what went well for a while is a success that is followed by a
// first failure: a store that flaps is to be approached slowly.
func (b *backoff) stood(d time.Duration) {
	if d > b.max {
		b.failures = 0
	}
}

// sleep blocks for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

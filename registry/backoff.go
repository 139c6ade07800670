package registry

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// backoff spaces failed attempts exponentially, with equal jitter: a fleet that lost its registry at one instant must not come back at
// one instant, and a process must not ask again at once.
type backoff struct {
	min, max time.Duration
	failures int
}

func (r *Registry) newBackoff() *backoff {
	return &backoff{min: r.opts.BackoffMin, max: r.opts.BackoffMax}
}

// wait counts a failure and blocks for the time that follows it. It reports whether ctx is still alive.
func (b *backoff) wait(ctx context.Context) bool {
	half := b.ceiling() / 2
	return sleep.For(ctx, half+rand.N(half+1))
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

// worked records that attempts succeeded for d before they failed again. If d is longer than the longest wait, the next failure counts as
// the first. Otherwise it counts as one more in a row, so that a store that flaps is not asked again at once.
func (b *backoff) worked(d time.Duration) {
	if d > b.max {
		b.failures = 0
	}
}

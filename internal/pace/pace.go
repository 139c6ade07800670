// Package pace limits how often an action runs whose cost is in proportion to the size of a set.
package pace

import "time"

// Pace is a token bucket for such actions: the larger the set, the longer the interval. The zero Pace is not usable.
type Pace struct {
	burst                int
	spacing, perInstance time.Duration
	tokens               float64 // how many actions may follow at once; below 0, the part of a token that the next action must wait for
	last                 time.Time
}

// Small is the size below which the interval shrinks in proportion: the action costs as much less, and the last changes of a storm in a
// small set are seen at once.
const Small = 100

// minWait is the shortest wait that is worth it: timers are about as late.
const minWait = 100 * time.Microsecond

// New returns a Pace that lets burst actions follow at once, and then one each interval: spacing, or perInstance times the size if that
// is longer. The action that runs now is the first of the burst.
func New(burst int, spacing, perInstance time.Duration) *Pace {
	return &Pace{burst: burst, spacing: spacing, perInstance: perInstance, tokens: float64(burst - 1), last: time.Now()}
}

// Next counts an action on a set of size n, and returns how long to wait before the next one.
func (p *Pace) Next(n int) time.Duration {
	return p.take(n, p.spacing*time.Duration(min(max(n, 1), Small))/Small)
}

// NextUnchanged is Next for an action that brought no change. It takes the whole spacing, however small the size, so that a store that
// answers again and again without a change is not asked too often.
func (p *Pace) NextUnchanged(n int) time.Duration { return p.take(n, p.spacing) }

func (p *Pace) take(n int, spacing time.Duration) time.Duration {
	spacing = max(spacing, time.Duration(n)*p.perInstance, 1)
	now := time.Now()
	earned := min(float64(p.burst-1), p.tokens+float64(now.Sub(p.last))/float64(spacing))
	p.tokens = max(-1, earned-1) // a caller that did not wait owes one spacing, not one for each time
	p.last = now
	if wait := time.Duration(-p.tokens * float64(spacing)); wait >= minWait {
		return wait
	}
	return 0
}

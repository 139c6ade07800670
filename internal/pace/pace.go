// Package pace bounds how often something is done whose cost is in proportion to the size of a set.
package pace

import "time"

// Pace is a token bucket whose rate falls with the size of what each turn deals with. The zero Pace is not usable.
type Pace struct {
	burst                int
	spacing, perInstance time.Duration
	tokens               float64 // turns that may follow at once; below 0, the part of one that has to be waited for
	last                 time.Time
}

// Small is the size below which a turn takes as much less than the whole spacing: it costs as much less, and a storm that ends
// with few is over at once for those who follow it.
const Small = 100

// least is the shortest time that is worth a wait: timers are about as late.
const least = 100 * time.Microsecond

// New returns a Pace that lets burst turns follow at once, and after that one each spacing, or perInstance times the size
// where that is longer. What is waited for now is the first of the burst.
func New(burst int, spacing, perInstance time.Duration) *Pace {
	return &Pace{burst: burst, spacing: spacing, perInstance: perInstance, tokens: float64(burst - 1), last: time.Now()}
}

// Next counts a turn that dealt with n, and returns how long to wait before the one after it.
func (p *Pace) Next(n int) time.Duration {
	return p.take(n, p.spacing*time.Duration(min(max(n, 1), Small))/Small)
}

// NextInVain is Next for a turn that brought nothing: it takes the whole spacing, however small the size, so that whatever makes
// such turns follow one another does not make them many.
func (p *Pace) NextInVain(n int) time.Duration { return p.take(n, p.spacing) }

func (p *Pace) take(n int, spacing time.Duration) time.Duration {
	spacing = max(spacing, time.Duration(n)*p.perInstance, 1)
	now := time.Now()
	earned := min(float64(p.burst-1), p.tokens+float64(now.Sub(p.last))/float64(spacing))
	p.tokens = max(-1, earned-1) // a caller that did not wait owes one spacing, not one for each time
	p.last = now
	if wait := time.Duration(-p.tokens * float64(spacing)); wait >= least {
		return wait
	}
	return 0
}

package registry

import "time"

// pace bounds how often one feed reads its set: a token bucket whose rate falls with the size of the set, since reading
// costs in proportion to it. See [Options.Burst].
type pace struct {
	burst                int
	spacing, perInstance time.Duration
	tokens               float64 // reads that may follow at once; below 0, the part of one that has to be waited for
	last                 time.Time
}

func (r *Registry) newPace() *pace {
	o := r.opts
	// The read that waits for the first change is one of the burst.
	return &pace{burst: o.Burst, spacing: o.Spacing, perInstance: o.SpacingPerInstance, tokens: float64(o.Burst - 1), last: time.Now()}
}

// next counts a read of a set of n instances, and returns how long to wait before the one after it.
func (p *pace) next(n int) time.Duration {
	spacing := max(p.spacing, time.Duration(n)*p.perInstance)
	now := time.Now()
	earned := min(float64(p.burst-1), p.tokens+float64(now.Sub(p.last))/float64(spacing))
	p.tokens = max(-1, earned-1) // a caller that did not wait owes one spacing, not one for each time
	p.last = now
	if p.tokens >= 0 {
		return 0
	}
	return time.Duration(-p.tokens * float64(spacing))
}

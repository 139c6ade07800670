package registry

import (
	"context"
	"fmt"
	"time"
)

// A set that comes right after an outage, and has lost much of what there was, is true and of no use: the store came back
// without its data, or leases and checks ran out meanwhile, and those who are alive have yet to say so. What there was is
// served meanwhile, beside an error.

// doubt is how much of a set is missing.
type doubt int

const (
	noDoubt   doubt = iota
	mostGone        // more than half: all calls would go to the few that came back first
	nothingIs       // all
)

// doubtOf reports whether set is in doubt. See [Options.EmptyHold]. f.mu is held.
func (f *feed) doubtOf(set []*Instance) doubt {
	old := &f.state
	// Leases may run out a moment after the store is back, so the first good answer does not end it.
	after := f.unhold != nil || !f.recovered.IsZero() && time.Since(f.recovered) < f.settling()
	if !after || f.r.opts.EmptyHold < 0 {
		return noDoubt
	}
	all, passing := len(set), len(passingOf(set))
	switch {
	case all == 0 && len(old.all.set) > 0, passing == 0 && len(old.passing.set) > 0:
		return nothingIs
	case old.fromDisk: // which may be long ago
	case 2*all < len(old.all.set), 2*passing < len(old.passing.set):
		return mostGone
	}
	return noDoubt
}

// settling is how long after an outage whoever lost an announcement has made it again: within BackoffMax, and a bit.
func (f *feed) settling() time.Duration { return f.r.opts.BackoffMax + time.Second }

// patience is how long the doubt lasts where nothing else ends it. Where nothing is there at all, it may be that nobody has
// come through to the store yet.
func (f *feed) patience(d doubt) time.Duration {
	if d == nothingIs {
		return f.r.opts.EmptyHold
	}
	return min(f.r.opts.EmptyHold, f.settling())
}

// hold keeps the last good set beside an error, until the newest set, which is in doubt, is believed. f.mu is held.
func (f *feed) hold(set []*Instance, d doubt) {
	if f.unhold != nil && f.doubt == d {
		f.doubted = set
		return
	}
	f.endHold()
	ctx, cancel := context.WithCancel(f.ctx)
	f.doubted, f.doubt, f.unhold = set, d, cancel
	limit := f.patience(d)
	f.report(f.state, fmt.Errorf("%w: the registry answers again, but %s; it is believed after %v", ErrUnavailable, f.missing(set), limit))
	// Close waits for it: the goroutine of the feed, which is here, is one that it waits for already.
	f.r.work.Go(func() {
		defer cancel()
		if sleep(ctx, limit) {
			f.believe(ctx)
		}
	})
}

// missing says what set lacks. f.mu is held.
func (f *feed) missing(set []*Instance) string {
	before, passing := len(f.state.all.set), len(f.state.passing.set)
	switch {
	case len(set) == 0:
		return fmt.Sprintf("has none of the %d instances from before", before)
	case len(passingOf(set)) == 0:
		return fmt.Sprintf("none of the %d instances from before passes", passing)
	}
	return fmt.Sprintf("has less than half of the %d instances from before, or of those less than half pass", before)
}

// believe publishes the set in doubt, unless the doubt has ended otherwise.
func (f *feed) believe(ctx context.Context) {
	f.mu.Lock()
	set := f.doubted
	news := ctx.Err() == nil && f.accept(set, false)
	f.mu.Unlock()
	if news {
		f.r.save(f.query, set)
	}
}

// endHold ends the doubt, whatever it led to: another set, another error, belief. f.mu is held.
func (f *feed) endHold() {
	if f.unhold != nil {
		f.unhold()
		f.unhold, f.doubted, f.doubt = nil, nil, noDoubt
	}
}

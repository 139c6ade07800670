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

// size is how many instances there are, and how many of them pass.
type size struct{ all, passing int }

func (s size) max(o size) size { return size{max(s.all, o.all), max(s.passing, o.passing)} }

func (s *state) size() size { return size{len(s.all.set), len(s.passing.set)} }

// begins notes that an outage begins, unless it has. One that follows another at once has the same before. f.mu is held.
func (f *feed) begins() {
	if f.failing {
		return
	}
	f.failing = true
	if !f.settles() {
		f.before = size{}
	}
	f.before = f.before.max(f.state.size())
}

// settles reports whether an outage has ended just now. Leases may run out a moment after the store is back, so the first
// good answer does not end it. f.mu is held.
func (f *feed) settles() bool {
	return !f.recovered.IsZero() && time.Since(f.recovered) < f.settling()
}

// doubtOf reports whether set is in doubt. See [Options.EmptyHold]. f.mu is held.
func (f *feed) doubtOf(set []*Instance) doubt {
	if f.unhold == nil && !f.settles() || f.r.opts.EmptyHold < 0 {
		return noDoubt
	}
	old, all, passing := f.state.size(), len(set), len(passingOf(set))
	if all == 0 && old.all > 0 || passing == 0 && old.passing > 0 {
		return nothingIs
	}
	// Not than what was published last: leases that run out one after another take less than half at a time.
	before := old.max(f.before)
	if !f.state.fromDisk && (2*all < before.all || 2*passing < before.passing) { // what is from disk may be long ago
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
	since := time.Now()
	if f.unhold != nil {
		since = f.since
	}
	f.endHold()
	ctx, cancel := context.WithCancel(f.ctx)
	f.doubted, f.doubt, f.since, f.unhold = set, d, since, cancel
	// An instance that comes and goes has each kind of doubt follow the other.
	limit := min(f.patience(d), max(0, f.patience(nothingIs)+f.patience(mostGone)-time.Since(since))).Round(time.Millisecond)
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
	before := f.state.size().max(f.before)
	switch {
	case len(set) == 0:
		return fmt.Sprintf("has none of the %d instances from before", before.all)
	case len(passingOf(set)) == 0:
		return fmt.Sprintf("none of the %d instances from before passes", before.passing)
	}
	return fmt.Sprintf("has less than half of the %d instances from before, or of those less than half pass", before.all)
}

// believe publishes the set in doubt, unless the doubt has ended otherwise.
func (f *feed) believe(ctx context.Context) {
	f.mu.Lock()
	news := ctx.Err() == nil
	if news {
		f.before = size{}
		news = f.accept(f.doubted, false)
	}
	f.mu.Unlock()
	if news {
		f.save()
	}
}

// endHold ends the doubt, whatever it led to: another set, another error, belief. f.mu is held.
func (f *feed) endHold() {
	if f.unhold != nil {
		f.unhold()
		f.unhold, f.doubted, f.doubt = nil, nil, noDoubt
	}
}

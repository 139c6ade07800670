package grpcx

import (
	"log/slog"
	"time"
)

// An emptied set is doubted: of a service that has had instances a moment ago, some are likely to be alive still, and one
// that is not costs no more than a connection that fails. Package registry doubts one that follows an outage; this is for
// all others, such as a registry that was wiped between two reads, or a selector that somebody mistyped.

// beginHold keeps the last instances for a while, and reports whether it does. r.mu is held.
func (r *watcher) beginHold() bool {
	if r.target.config.EmptyHold == 0 {
		return false
	}
	var hold *time.Timer
	hold = time.AfterFunc(r.target.config.EmptyHold, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.hold == hold { // it was not ended meanwhile
			r.believe()
		}
	})
	r.hold = hold
	r.meter.count(metricHolds)
	r.log(slog.LevelWarn, "there is no instance any more; the last ones are used for a while", "instances", len(r.sent), "for", r.target.config.EmptyHold)
	return true
}

// endHold reports whether the last instances were kept. r.mu is held.
func (r *watcher) endHold() bool {
	if r.hold == nil {
		return false
	}
	r.hold.Stop()
	r.hold = nil
	return true
}

// believe takes the empty set for what it is. r.mu is held.
func (r *watcher) believe() {
	r.endHold()
	r.log(slog.LevelWarn, "there is still no instance: the last ones are given up")
	r.send(r.choice.choose(r.newest))
}

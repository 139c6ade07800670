package consul

import (
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// source.go decides which answers a source uses as they are; this file decides how soon it reads a suspect set again.
//
// Package registry withholds a set that has lost more than half at once, for a grace period of more than a second by default. It is up to
// the source to read the set again within that time.

// minConfirmWait is the first wait of a read that is to confirm a suspect set.
const minConfirmWait = 500 * time.Millisecond

// size is how many instances a set has, and how many of them pass.
type size struct{ all, passing int }

func sizeOf(set []*registry.Instance) size {
	n := size{all: len(set)}
	for _, in := range set {
		if in.Status == registry.Passing {
			n.passing++
		}
	}
	return n
}

// lostMost reports whether more than half is missing since before.
func (n size) lostMost(before size) bool {
	return 2*n.all < before.all || 2*n.passing < before.passing
}

// noteSize notes the size of the set that was read last. A set that has lost more than half is suspect until half is back, or for
// Config.Wait.
func (s *source) noteSize(n size) {
	if s.suspect() && (!n.lostMost(s.goodSize) || time.Since(s.suspectSince) >= s.d.settings.Wait) {
		s.suspectSince = time.Time{}
	}
	if !s.suspect() && n.lostMost(s.size) {
		s.suspectSince, s.goodSize = time.Now(), s.size
	}
	s.size = n
}

func (s *source) suspect() bool { return !s.suspectSince.IsZero() }

// halfIsBack reports whether set has half of what a suspect set has lost.
func (s *source) halfIsBack(set []*registry.Instance) bool {
	return s.suspect() && !sizeOf(set).lostMost(s.goodSize)
}

// mostWait returns how long a read may wait for a change. While the set is suspect, this is the time for which it has been suspect. So a set
// that stays small costs a few more reads in all, and a wrong set is replaced soon after the wrong answers end.
func (s *source) mostWait() time.Duration {
	most := s.d.settings.Wait
	if !s.suspect() {
		return most
	}
	return min(most, max(minConfirmWait, time.Since(s.suspectSince)))
}

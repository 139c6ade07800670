package registry

import (
	"fmt"
	"time"
)

// suspicion is how much of a set is missing.
type suspicion int

const (
	nothingSuspect suspicion = iota
	mostGone                 // more than half: all calls would go to the few that are left
	allGone                  // all
)

// verdict is the result of examining a set.
type verdict struct {
	suspect  suspicion
	missing  string        // how much is missing, as text for errors
	shown    []*Instance   // the set for readers if it is suspect: its instances, and the withheld instances as they were
	withheld []string      // IDs of the withheld instances
	left     size          // number of instances that left on purpose since the last set
	obsolete []string      // IDs of departures that the set shows, or that are out of date
	grace    time.Duration // how long the set is withheld
}

// examine compares the candidate state next with the largest recent set. See the table in the package's documentation. f.mu is locked.
func (f *feed) examine(next *state, now time.Time) verdict {
	var v verdict
	old, set := &f.state, next.all.set
	if len(f.shrink.departed) > 0 || len(old.all.set) > len(old.passing.set) || len(set) > len(next.passing.set) {
		f.findLeavers(&v, set, now)
	}
	if f.r.opts.OutageGrace < 0 || f.startsAnew(now) {
		return v
	}
	had, has := f.shrink.largestSince(old, now.Add(-f.r.shortGrace())).minus(v.left), next.size()
	switch {
	case has.all == 0 && had.all > 0 || has.passing == 0 && had.passing > 0:
		v.suspect = allGone
	case old.origin == FromRegistry && (2*has.all < had.all || 2*has.passing < had.passing): // otherwise it may be from long ago
		v.suspect = mostGone
	default:
		return v
	}
	v.missing = describeMissing(had, has)
	v.grace = f.graceFor(v.suspect, now)
	f.findWithheld(&v, set)
	return v
}

func describeMissing(had, has size) string {
	switch {
	case has.all == had.all:
		return fmt.Sprintf("from %d to %d passing instances", had.passing, has.passing)
	case had.all == had.passing && has.all == has.passing:
		return fmt.Sprintf("from %d to %d instances", had.all, has.all)
	}
	return fmt.Sprintf("from %d to %d instances (passing: %d to %d)", had.all, has.all, had.passing, has.passing)
}

// shrink is the part of a feed that tells whether a set is suspect: the sizes of the recent sets, and the departures. The feed's mutex
// guards it.
type shrink struct {
	all, passing peak // recent numbers of instances, and of passing instances; each has the departures until then added
	left         size // number of departures since the feed began

	departed map[string]time.Time // by ID: when an instance that is still in the set was reported to have left

	startsAnewUntil time.Time // see LookupPause; zero if there was a set or a failure since the pause

	failedAt  time.Time // when the last outage began
	recovered time.Time // when the last outage ended

	grace        *grace    // the grace period; nil if no set is withheld
	suspectSince time.Time // when the current run of suspect sets began; zero if the last set was published
}

// apply records the departures that v found.
func (s *shrink) apply(v *verdict) {
	s.left = s.left.plus(v.left)
	for _, id := range v.obsolete {
		delete(s.departed, id)
	}
}

// size has the number of instances of a set, and the number of passing instances.
type size struct{ all, passing int }

func (s *state) size() size { return size{len(s.all.set), len(s.passing.set)} }

func (s size) plus(o size) size { return size{s.all + o.all, s.passing + o.passing} }

func (s size) minus(o size) size { return size{s.all - o.all, s.passing - o.passing} }

// peak is the maximum over a sliding window. Its elements have decreasing n.
type peak []struct {
	n     int
	until time.Time
}

// add records that the number was n until now.
func (p *peak) add(n int, now time.Time) {
	for len(*p) > 0 && (*p)[len(*p)-1].n <= n {
		*p = (*p)[:len(*p)-1]
	}
	*p = append(*p, struct {
		n     int
		until time.Time
	}{n, now})
}

// since returns the maximum of n and of the numbers after t. It removes the numbers before t.
func (p *peak) since(t time.Time, n int) int {
	for len(*p) > 0 && !(*p)[0].until.After(t) {
		*p = (*p)[1:]
	}
	if len(*p) > 0 {
		return max(n, (*p)[0].n)
	}
	return n
}

// shift moves the times of all elements by d.
func (p peak) shift(d time.Duration) {
	for i := range p {
		p[i].until = p[i].until.Add(d)
	}
}

// A peak stores the size of a set plus all departures so far. largestSince subtracts the departures until now. So instances that left on
// purpose in between are not missing.

// noteReplaced adds the size of old, which another set follows, to the peaks. It ignores a set from memory or disk, which may be old.
func (s *shrink) noteReplaced(old *state, now time.Time) {
	if !old.known || old.origin != FromRegistry {
		return
	}
	n := old.size().plus(s.left)
	s.all.add(n.all, now)
	s.passing.add(n.passing, now)
}

// largestSince returns the largest numbers since t, without the instances that left on purpose.
func (s *shrink) largestSince(st *state, t time.Time) size {
	n := st.size().plus(s.left)
	return size{s.all.since(t, n.all), s.passing.since(t, n.passing)}.minus(s.left)
}

// forgetPeaks drops the history: the next set is compared with the current set only.
func (s *shrink) forgetPeaks() { s.all, s.passing = nil, nil }

// outageBegins records a failure. first says that it is the first of an outage. The time until outageEnds does not count for the peaks.
func (s *shrink) outageBegins(now time.Time, first bool) {
	if first {
		s.failedAt = now
	}
}

// outageEnds records an answer after an outage. Grace periods in a row share one limit. An outage between them changes the limit:
//
//   - up to short: the limit stays, so a registry that flaps cannot make readers keep the last good set for ever;
//   - up to long: the limit moves by the length of the outage;
//   - longer: the limit starts anew, since leases may have expired meanwhile.
func (s *shrink) outageEnds(now time.Time, short, long time.Duration) {
	s.recovered = now
	lasted := now.Sub(s.failedAt)
	s.all.shift(lasted)
	s.passing.shift(lasted)
	switch {
	case s.suspectSince.IsZero() || lasted <= short:
	case lasted <= long:
		s.suspectSince = s.suspectSince.Add(lasted)
	default:
		s.suspectSince = time.Time{}
	}
}

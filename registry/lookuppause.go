package registry

import "time"

// LookupPause is the pause between the first and the second read of a watch that only a Lookup has used. The second read blocks at the
// registry until something changes; thanks to the pause, a program that looks up once and ends costs one read only. A Watch or a further
// Lookup ends the pause. The pause hides departures. So a set that comes in it, or within LookupPause after it, counts as a first set.
const LookupPause = time.Second

// endPause ends the pause of a feed that only lookups have used. If the pause has not begun, it never will.
func (f *feed) endPause() { f.endsPause.Do(func() { close(f.pauseEnd) }) }

// pause blocks until endPause is called, for LookupPause at most. It does so once only. It returns false if the feed ends.
func (f *feed) pause() bool {
	select {
	case <-f.pauseEnd:
		return true
	default:
	}
	f.startAnew(2 * LookupPause) // the pause, and the time that the read after it may take
	defer f.startAnew(LookupPause)
	t := time.NewTimer(LookupPause)
	defer t.Stop()
	select {
	case <-f.pauseEnd:
	case <-t.C:
		f.endPause()
	case <-f.ctx.Done():
		return false
	}
	return true
}

// startAnew makes the next set count as a first set if it comes within d, because nothing watches during a pause.
func (f *feed) startAnew(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shrink.startsAnewUntil = time.Now().Add(d)
}

// startsAnew reports whether a set that comes now counts as a first set. After an outage no set does, since the store may have lost its
// data. f.mu is locked.
func (f *feed) startsAnew(now time.Time) bool {
	return now.Before(f.shrink.startsAnewUntil) && f.shrink.grace == nil && !f.justRecovered(now)
}

// watchedAgain records that there was a set or a failure after a pause.
func (s *shrink) watchedAgain() { s.startsAnewUntil = time.Time{} }

package registry

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/delta"
	"github.com/rollcall-go/rollcall/internal/sleep"
)

// RefusedPause is the time between two attempts of a watch that the registry refuses with [ErrInvalid] and that has never had an answer.
const RefusedPause = 30 * time.Second

// feed is the shared watch of one query. It asks for instances of any status, and selects for each reader. Its goroutine is the only
// caller of its Source. Readers look at the newest state whenever they are ready, so a slow one delays no other and skips what it
// missed. See watchgrace.go for the sets that it withholds.
type feed struct {
	shared
	query Query
	key   string

	pauseEnd  chan struct{} // closed when the feed may go on after its first read: see LookupPause
	endsPause sync.Once     // closes pauseEnd

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed, and replaced, when there is news in state
	backup  *lastGood     // the set for readers until the first answer; nil if nothing is remembered or saved
	outage  watchOutage

	lookups lookupState // see ownwrites.go
	shrink  shrink      // see suspectset.go
	counts  watchCounts // see snapshot.go

	saving sync.Mutex // locked while the set is written to disk
}

// state is what readers see. Its sets are never changed in place.
type state struct {
	all, passing view  // the last good set: all of its instances, and the passing instances
	known        bool  // there is a last good set
	err          error // the newest reason why the set may be out of date
	newsCount    int   // incremented when readers must get another pair, because err began, changed kind, or ended
	final        bool  // nothing follows err
	since        time.Time
	origin       Origin
	withheld     []string // IDs of the withheld instances
}

// view is the part of a state that a query selects.
type view struct {
	set      []*Instance
	revision int // counts the changes of set
}

func (s *state) view(q Query) view {
	if q.AnyStatus {
		return s.all
	}
	return s.passing
}

// withSet returns a copy of s that has set, and in which known is true.
func (s state) withSet(set []*Instance) state {
	passing := set
	if len(s.passing.set) < len(s.all.set) || !delta.AllNew(s.all.set, set, (*Instance).passes) {
		passing = passingOf(set)
	}
	if !s.known || !slices.Equal(passing, s.passing.set) {
		s.passing = view{passing, s.passing.revision + 1}
	}
	s.all = view{set, s.all.revision + 1}
	s.known = true
	return s
}

// stale returns err as readers get it beside the set of s: wrapped in a StaleError if there is a set.
func (s *state) stale(err error) error {
	if !s.known {
		return err
	}
	since := s.since
	if since.IsZero() {
		since = time.Now()
	}
	return &StaleError{Since: since, Origin: s.origin, Withheld: s.withheld, Err: err}
}

func (in *Instance) passes() bool { return in.Status == Passing }

// passingOf returns the instances of set that pass, mostly all of them.
func passingOf(set []*Instance) []*Instance {
	n := 0
	for _, in := range set {
		if in.passes() {
			n++
		}
	}
	if n == len(set) {
		return set
	}
	passing := make([]*Instance, 0, n)
	for _, in := range set {
		if in.passes() {
			passing = append(passing, in)
		}
	}
	return passing
}

// join returns the feed for q and counts the caller as its reader. It starts a feed if there is none.
func (r *Registry) join(q Query) (*feed, error) {
	f, _, err := r.joinQuietly(q)
	if err == nil {
		f.endPause()
	}
	return f, err
}

// joinQuietly is join for a reader that needs one answer only, so that the feed may pause after it. It reports whether it started the
// feed.
func (r *Registry) joinQuietly(q Query) (f *feed, started bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unusable(); err != nil {
		return nil, false, err
	}
	q = q.wide()
	key := q.key()
	f = r.feeds[key]
	started = f == nil
	if started {
		f = r.newFeed(q.normal(), key)
		r.feeds[key] = f
		r.reads.Go(f.run)
	}
	f.join()
	return f, started, nil
}

// newFeed returns a feed that does not run yet. r.mu is locked.
func (r *Registry) newFeed(q Query, key string) *feed {
	f := &feed{
		query: q, key: key,
		pauseEnd: make(chan struct{}), changed: make(chan struct{}), backup: r.remembered.find(key),
	}
	f.shared = r.newShared(f.remember)
	return f
}

// run reads the set until the feed is stopped or nothing can follow.
func (f *feed) run() {
	defer f.stop()
	defer f.r.outages.drop(&f.shared)
	src := f.r.driver.Watch(f.query)
	defer src.Close()
	defer f.endGrace()
	defer f.r.unreadable.end(f)
	defer f.offerBackup()()
	retry, pace := f.r.newBackoff(), f.r.newPace()
	var good time.Time // since when there were answers and no error
	for {
		read, err := next(f.ctx, f.r.limit, src)
		switch {
		case f.ctx.Err() != nil:
			return
		case err == nil:
			if good.IsZero() {
				good = time.Now()
			}
			next := pace.NextUnchanged
			f.noteUnreadable(read.Unreadable)
			if f.publish(read) {
				runtime.Gosched() // the readers go first: what is left to do is not urgent
				f.save()
				next = pace.Next
			}
			if !sleep.For(f.ctx, next(len(read.Instances))) || !f.pause() {
				return
			}
		default:
			next := f.fail(f.r.classify(f.ctx, err), read.Outdated)
			if next == retryNever {
				f.end()
				return
			}
			if !good.IsZero() {
				retry.worked(time.Since(good))
				good = time.Time{}
			}
			if next == retrySoon && !retry.wait(f.ctx) || next == retryLater && !sleep.For(f.ctx, RefusedPause) {
				return
			}
		}
	}
}

// publish makes read the state, if it differs and is not suspect. It reports whether the set changed.
func (f *feed) publish(read Set) bool {
	st, _ := f.now()
	set, same := merge(st.all.set, read.Instances, f.query) // without the lock, since it may take long
	f.mu.Lock()
	defer f.mu.Unlock()
	if st.all.revision != f.state.all.revision {
		set, same = merge(f.state.all.set, read.Instances, f.query)
	}
	now := time.Now()
	f.counts.reads++
	f.counts.unreadable = read.Unreadable
	f.lookups.published(read)
	for _, id := range read.Departed {
		f.noteDeparture(id, now)
	}
	f.recovered(now)
	return f.consider(set, same, now)
}

// consider makes set the state, or withholds it if it is suspect. It reports whether the set changed. f.mu is locked.
func (f *feed) consider(set []*Instance, same bool, now time.Time) bool {
	if f.startsAnew(now) {
		defer f.shrink.forgetPeaks()
	}
	defer f.shrink.watchedAgain()
	next := f.state
	if !same || !next.known {
		next = next.withSet(set)
	}
	if !same || f.shrink.grace != nil {
		v := f.examine(&next, now)
		defer f.shrink.apply(&v) // after noteReplaced, which needs the departures until now
		if v.suspect != nothingSuspect {
			f.withhold(set, v, now)
			return false
		}
	}
	return f.accept(next, now)
}

// recovered records an answer, and logs the end of an outage. f.mu is locked.
func (f *feed) recovered(now time.Time) {
	_, was, facts := f.outage.answered(&f.shared, now)
	if was {
		f.shrink.outageEnds(now, f.r.shortGrace(), f.r.opts.OutageGrace)
	}
	if facts != nil {
		f.r.opts.Logger.Info("rollcall: watch recovered", append([]any{"registry", f.r.String(), "service", f.query.Service}, facts...)...)
	}
}

// accept makes next the state, without an error, and reports whether its set is news. f.mu is locked.
func (f *feed) accept(next state, now time.Time) bool {
	f.endGraceLocked()
	f.shrink.suspectSince = time.Time{}
	old := f.state
	changed := next.all.revision != old.all.revision
	if changed || old.err != nil {
		if changed {
			f.shrink.noteReplaced(&old, now)
		}
		next.origin, next.since, next.withheld = FromRegistry, time.Time{}, nil
		if next.err != nil {
			next.err = nil
			next.newsCount++
		}
		f.set(next)
		if old.err != nil {
			f.r.emit(pendingEvent{Event: Event{Kind: WatchRecovered, Service: f.query.Service, Instances: len(next.all.set), Took: now.Sub(f.counts.failingSince)}})
		}
	}
	return changed || old.origin != FromRegistry
}

// retryTime says when the attempt after a failed one is due.
type retryTime int

const (
	retrySoon  retryTime = iota // after the backoff
	retryLater                  // after RefusedPause
	retryNever
)

// fail makes err the error of the state. The set stays, or is the backup if there was no answer yet. fail returns when to try again.
func (f *feed) fail(err error, outdated func() bool) retryTime {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups.outdated = outdated
	return f.failLocked(err)
}

func (f *feed) failLocked(err error) retryTime {
	now := time.Now()
	f.endGraceLocked()
	f.counts.failures++
	f.shrink.outageBegins(now, f.outage.failures == 0)
	f.shrink.watchedAgain()
	next := f.state
	next.final = errors.Is(err, ErrClosed)
	news, facts := f.outage.failed(&f.shared, err, now)
	if !next.known && f.backup != nil && !next.final {
		next = f.fromBackup()
		news = true
	}
	if next.since.IsZero() {
		next.since = now
	}
	f.report(next, err, news)
	if news {
		f.r.emit(pendingEvent{Event: Event{Kind: WatchFailed, Service: f.query.Service, Instances: len(next.all.set), Err: f.state.err}})
	}
	if facts != nil {
		f.logFailure(facts)
	}
	switch {
	case next.final:
		return retryNever
	case !next.known && errors.Is(err, ErrInvalid):
		return retryLater
	}
	return retrySoon
}

// report makes next the state with err beside its set, and tells the readers if that is news. f.mu is locked.
func (f *feed) report(next state, err error, news bool) {
	if f.state.err == nil {
		f.counts.failingSince = time.Now()
	}
	next.err = &Error{Op: "watch", Service: f.query.Service, Err: next.stale(err)}
	if !news {
		f.state = next
		return
	}
	next.newsCount++
	f.set(next)
}

// logFailure logs the error of the state, with facts as attributes. f.mu is locked.
func (f *feed) logFailure(facts []any) {
	text := "rollcall: watch failed, no set known yet"
	if f.state.known {
		text = "rollcall: watch failed, keeping last good set"
		facts = append(facts, "instances", len(f.state.all.set))
	}
	f.r.opts.Logger.Warn(text, append(facts, "registry", f.r.String(), "service", f.query.Service, "error", cause(f.state.err))...)
}

// set makes s the state and wakes every reader. f.mu is locked.
func (f *feed) set(s state) {
	before := &f.state
	if s.all.revision != before.all.revision {
		f.counts.changes++
		f.counts.changedAt = time.Now()
		f.r.emit(pendingEvent{Event: Event{Kind: SetChanged, Service: f.query.Service, Instances: len(s.all.set), Err: s.err},
			before: before.all.set, after: s.all.set})
	}
	f.state = s
	changed := f.changed
	f.changed = make(chan struct{})
	close(changed) // last, since the readers that wake want the lock
}

// now returns the state, and a channel that is closed when there is news in it.
func (f *feed) now() (state, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.changed
}

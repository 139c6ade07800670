package registry

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/delta"
)

// feed reads the set of one query for all its readers, of those that want any status and of those that want instances that
// pass: it follows the wider of the two, and shows each its view. Its goroutine is the only caller of its Source; readers
// look at the newest state whenever they are ready, so a slow one holds nobody up and skips what it missed.
type feed struct {
	r     *Registry
	query Query
	key   string
	ctx   context.Context // ends with the feed, which outlives each of its readers
	stop  context.CancelFunc

	readers int         // guarded by r.mu
	idle    *time.Timer // stops the feed some time after its last reader has left; guarded by r.mu

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed, and replaced, when state changes

	failing   bool        // there was no good answer since the last failure
	recovered time.Time   // when there was one after a failure
	before    size        // of the last good set before that failure
	doubted   []*Instance // the newest set, while there is doubt about it
	doubt     doubt
	since     time.Time // when the doubt began, of whichever kind it was then
	unhold    func()    // ends the doubt; nil while there is none

	saving sync.Mutex // held while the set is written to disk
}

// state is what readers see. Its sets are never changed in place.
type state struct {
	all, passing view  // the last good ones
	known        bool  // whether they are
	err          error // why they may be out of date
	final        bool  // nothing follows err
	fromDisk     bool  // they were not read from the registry
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

// with returns s with another set, which is known.
func (s state) with(set []*Instance) state {
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

func (in *Instance) passes() bool { return in.Status == Passing }

// passingOf returns those of set that pass, which mostly are all.
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

// join returns the feed for q, started where there was none, and counts the caller as its reader.
func (r *Registry) join(q Query) (*feed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unusable(); err != nil {
		return nil, err
	}
	q = q.wide()
	key := q.key()
	f := r.feeds[key]
	if f == nil {
		ctx, cancel := context.WithCancel(r.ctx)
		f = &feed{r: r, query: q.normal(), key: key, ctx: ctx, stop: cancel, changed: make(chan struct{})}
		r.feeds[key] = f
		r.work.Go(f.run)
	}
	f.addReader()
	return f, nil
}

// joinLive is join for a feed that runs already, and returns nil where none does.
func (r *Registry) joinLive(q Query) *feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.feeds[q.wide().key()]
	if f == nil || r.unusable() != nil {
		return nil
	}
	f.addReader()
	return f
}

func (f *feed) addReader() {
	f.readers++
	f.stopTimer()
}

func (f *feed) stopTimer() {
	if f.idle != nil {
		f.idle.Stop()
		f.idle = nil
	}
}

// leave ends what join began. The last reader leaves the feed to linger.
func (r *Registry) leave(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.readers--
	switch {
	case f.readers > 0 || r.closed:
	case r.opts.Linger < 0:
		r.forget(f)
	default:
		f.idle = time.AfterFunc(r.opts.Linger, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if f.readers == 0 {
				r.forget(f)
			}
		})
	}
}

// forget stops f; whoever asks for its query from now on gets another. r.mu is held.
func (r *Registry) forget(f *feed) {
	if r.feeds[f.key] == f {
		delete(r.feeds, f.key)
	}
	f.stop()
}

// run reads the set until the feed is stopped or nothing can follow.
func (f *feed) run() {
	defer f.stop()
	src := f.r.driver.Follow(f.query)
	defer src.Close()
	saved := f.r.loadSaved(f.query)
	if saved != nil {
		// A registry that accepts and never answers must not keep a new process waiting for the driver's patience to end.
		hurry := time.AfterFunc(saved.patience, func() { f.fail(errNoAnswer, saved) })
		defer hurry.Stop()
	}
	retry, pace := f.r.newBackoff(), f.r.newPace()
	var good time.Time // since when there were answers and no error
	for {
		raw, err := src.Next(f.ctx)
		f.r.logUnreadable(f.query.Service, src)
		switch {
		case f.ctx.Err() != nil:
			return
		case err == nil:
			if good.IsZero() {
				good = time.Now()
			}
			next := pace.NextInVain
			if f.publish(raw) {
				runtime.Gosched() // the readers go first: nobody waits for what is left to do
				f.save()
				next = pace.Next
			}
			if !sleep(f.ctx, next(len(raw))) {
				return
			}
		default:
			if final := f.fail(f.r.classify(f.ctx, err), saved); final {
				f.r.mu.Lock()
				f.r.forget(f)
				f.r.mu.Unlock()
				return
			}
			if !good.IsZero() {
				retry.stood(time.Since(good))
				good = time.Time{}
			}
			if !retry.wait(f.ctx) {
				return
			}
		}
	}
}

// publish makes what a Source returned the state, where it differs and can be believed. It reports whether the set changed.
func (f *feed) publish(raw []*Instance) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	set, same := merge(f.state.all.set, raw, f.query)
	if f.failing {
		f.failing, f.recovered = false, time.Now()
	}
	if d := f.doubtOf(set); d != noDoubt {
		f.hold(set, d)
		return false
	}
	return f.accept(set, same)
}

// accept makes set the state, and reports whether that is news. f.mu is held.
func (f *feed) accept(set []*Instance, same bool) bool {
	f.endHold()
	old := f.state
	changed := !same || !old.known
	if changed || old.err != nil {
		next := old
		if changed {
			next = old.with(set)
		}
		next.err, next.fromDisk = nil, false
		f.set(next)
	}
	if old.err != nil {
		f.r.opts.Logger.Info("rollcall: the registry answers again", "registry", f.r.String(), "service", f.query.Service, "instances", len(set))
	}
	return changed || old.fromDisk
}

// fail puts err beside the last good set, and the saved one where there is none. It reports whether nothing can follow.
func (f *feed) fail(err error, saved *savedSet) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.state
	if err == errNoAnswer && (next.known || next.err != nil) {
		return false
	}
	f.begins()
	f.endHold()
	next.final = errors.Is(err, ErrInvalid) || errors.Is(err, ErrClosed)
	if !next.known && saved != nil && !next.final {
		set, _ := merge(nil, saved.instances, f.query)
		next = next.with(set)
		next.fromDisk = true
	}
	if next.fromDisk {
		err = saved.beside(err)
	}
	f.report(next, err)
	return next.final
}

// report makes next the state with err beside its set, unless that is the same as before. f.mu is held.
func (f *feed) report(next state, err error) {
	next.err = &Error{Op: "watch", Service: f.query.Service, Err: err}
	if errText(f.state.err) == errText(next.err) {
		return
	}
	f.set(next)
	f.r.opts.Logger.Warn("rollcall: the set may be out of date", "registry", f.r.String(), "service", f.query.Service,
		"instances", len(next.all.set), "error", err)
}

// set makes s the state and wakes every reader. f.mu is held.
func (f *feed) set(s state) {
	f.state = s
	changed := f.changed
	f.changed = make(chan struct{})
	close(changed) // last, since whoever wakes wants the lock
}

// now returns the state, and a channel that is closed when it changes.
func (f *feed) now() (state, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.changed
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// maxRememberedValues is the number of keys whose last good value a [Registry] keeps in memory after their watches have ended. It is
// less than MaxRemembered, since a value may be large.
const maxRememberedValues = 100

// WatchValue yields the value of key: once promptly, and then after each change. A nil value without an error is a confirmed absence.
// A failed read comes with an error.
//
// A pair with an error reports that the value may be out of date and why. The value is then the last good value, and the error wraps a
// [StaleError]. If no value is known yet, it is nil, and the error wraps none. The watch goes on, and a pair without an error follows when
// the registry answers again. If the key is missing right after an outage, the last good value is kept for [Options.OutageGrace], since
// the store may have lost its data for a moment; without an outage, and if this Registry deletes the key, the absence is yielded at once.
//
// All watches of a key in a Registry share one read. [Options.Linger], Burst, Spacing, SpacingPerInstance and Rate apply to it as to the
// read of a query; for the two spacings, a value counts as one instance, and one more for every 256 bytes. The last good value is saved to
// [Options.CacheDir].
//
// WatchValue ends when ctx is done or the loop breaks, and after a pair with [ErrClosed] or, for a key that PutValue refuses,
// [ErrInvalid]. A slow reader skips to the newest value. Values are shared and must not be changed.
func (r *Registry) WatchValue(ctx context.Context, key string) iter.Seq2[*Value, error] {
	fail := func(err error) error { return &Error{Op: "watch value", Key: key, Err: err} }
	return func(yield func(*Value, error) bool) {
		if err := ValidateKey(key); err != nil {
			yield(nil, fail(err))
			return
		}
		if ctx.Err() != nil {
			return
		}
		f, err := r.joinValue(key)
		if err != nil {
			yield(nil, fail(err))
			return
		}
		defer f.leave()
		seen := 0
		var timeout *time.Timer // for a value that shows what this Registry has written
		for {
			st, changed := f.now()
			if ctx.Err() != nil {
				return
			}
			isOld := seen == 0 && st.isBehindWrites()
			if !isOld && st.news != seen {
				seen = st.news
				if !yield(st.value, st.err) || st.final {
					return
				}
				continue
			}
			var late <-chan time.Time
			if isOld {
				if timeout == nil {
					timeout = time.NewTimer(ownWriteTimeout)
					defer timeout.Stop()
				}
				late = timeout.C
			}
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				yield(st.value, fail(st.stale(ErrClosed)))
				return
			case <-changed:
			case <-late:
				f.seesWrites()
			}
		}
	}
}

// valueFeed is the shared watch of one key, as feed is of a query. Its goroutine is the only caller of its source.
type valueFeed struct {
	shared
	key string

	mu      sync.Mutex
	state   valueState
	changed chan struct{} // closed, and replaced, when there is news in state
	backup  *lastValue    // the value for readers until the first answer; nil if nothing is remembered or saved
	outage  watchOutage

	answers   int         // number of reads that succeeded
	recovered time.Time   // when the last outage ended
	deletes   bool        // this Registry deletes the key, or did so last, so that its absence is not suspect
	unsure    bool        // deletes is true because of an attempt that failed, and may have deleted the key
	missing   time.Time   // since when an absence has been withheld, outages in between included; zero if the value is not missing
	absence   *time.Timer // publishes the absence; nil if none is withheld now

	saving sync.Mutex // locked while the value is written to disk
}

// valueState is what readers see.
type valueState struct {
	value  *Value // the last good value
	known  bool   // there is a last good value, or a confirmed absence
	err    error  // the newest reason why the value may be out of date
	news   int    // number of pairs for readers so far; 0 before the first
	final  bool   // nothing follows err
	since  time.Time
	origin Origin

	wrote   uint64 // the revision that this Registry has written; 0 if it is not awaited
	deleted bool   // this Registry has deleted the key since the last answer
}

// isBehindWrites reports whether s may be from before a write of this Registry.
func (s *valueState) isBehindWrites() bool {
	return s.err == nil && (s.deleted || s.wrote > 0 && (s.value == nil || s.value.Revision < s.wrote))
}

// ownWriteTimeout is how long a new reader waits for a value that shows the last write of this Registry. A large value that changes often
// is read after a pause of 0.3 s.
const ownWriteTimeout = time.Second

// lastValue is the last good value of a watch that has ended, of this process or of an earlier one.
type lastValue struct {
	value  *Value
	since  time.Time // see StaleError.Since
	origin Origin
}

// stale returns err as readers get it beside the value of s: wrapped in a StaleError if a value is known.
func (s *valueState) stale(err error) error {
	if !s.known {
		return err
	}
	since := s.since
	if since.IsZero() {
		since = time.Now()
	}
	return &StaleError{Since: since, Origin: s.origin, Err: err}
}

// joinValue returns the feed of a key and counts the caller as its reader. It starts a feed if there is none.
func (r *Registry) joinValue(key string) (*valueFeed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unusable(); err != nil {
		return nil, err
	}
	f := r.valueFeeds[key]
	if f == nil {
		f = &valueFeed{key: key, changed: make(chan struct{}), backup: r.oldValues.find(key)}
		f.shared = r.newShared(f.remember)
		r.valueFeeds[key] = f
		r.reads.Go(f.run)
	}
	f.join()
	return f, nil
}

// remember takes f out of the feeds and keeps its value for the next reader of the key. r.mu is locked.
func (f *valueFeed) remember() {
	delete(f.r.valueFeeds, f.key)
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.backup
	if st := f.state; st.known {
		last = &lastValue{value: st.value, since: st.since, origin: max(st.origin, FromMemory)}
		if last.since.IsZero() {
			last.since = time.Now()
		}
	}
	if last != nil {
		f.r.oldValues.keep(f.key, last)
	}
}

// run reads the value until the feed is stopped or nothing can follow.
func (f *valueFeed) run() {
	defer f.stop()
	defer f.r.outages.drop(&f.shared)
	src := f.r.driver.WatchValue(f.key)
	defer src.Close()
	defer f.endWithholding()
	defer f.offerBackup()()
	retry, pace := f.r.newBackoff(), f.r.newPace()
	var good time.Time // since when there were answers and no error
	for {
		value, err := next(f.ctx, f.r.limit, src)
		if err == nil && value != nil {
			err = checkValue(value.Data) // it may have been written by another program
		}
		switch {
		case f.ctx.Err() != nil:
			return
		case err == nil:
			if good.IsZero() {
				good = time.Now()
			}
			wait := pace.NextUnchanged
			if f.publish(value) {
				f.save()
				wait = pace.Next
			}
			if !sleep.For(f.ctx, wait(costOf(value))) {
				return
			}
		default:
			next := f.fail(f.r.classify(f.ctx, err))
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

// bytesPerInstance is how many bytes of a value cost as much as an instance of a set.
const bytesPerInstance = 256

// costOf returns how many instances cost as much as v.
func costOf(v *Value) int {
	if v == nil {
		return 1
	}
	return 1 + len(v.Data)/bytesPerInstance
}

// offerBackup loads the saved value if no value is remembered. If the registry does not answer within firstAnswerTimeout, readers get that
// value. end stops the wait for that time.
func (f *valueFeed) offerBackup() (end func() bool) {
	f.mu.Lock()
	backup := f.backup
	f.mu.Unlock()
	if backup == nil {
		backup = f.r.loadValue(f.key)
	}
	if backup == nil {
		return func() bool { return false }
	}
	f.mu.Lock()
	f.backup = backup
	f.mu.Unlock()
	return time.AfterFunc(firstAnswerTimeout, f.noAnswer).Stop
}

// noAnswer makes the state say that there is no answer, unless the first read has ended. That read goes on.
func (f *valueFeed) noAnswer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.state.known && f.state.err == nil && f.ctx.Err() == nil {
		f.failLocked(errNoAnswer)
	}
}

// publish makes value the state, unless it is an absence that is withheld. It reports whether the value is new.
func (f *valueFeed) publish(value *Value) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.answered(now)
	if value == nil && f.isSuspect(now) {
		f.withhold(now)
		return false
	}
	return f.accept(value)
}

// answered records an answer, and logs the end of an outage. f.mu is locked.
func (f *valueFeed) answered(now time.Time) {
	f.answers++
	f.state.deleted = false
	lasted, was, facts := f.outage.answered(&f.shared, now)
	if was {
		f.recovered = now
		if lasted > f.r.opts.OutageGrace {
			f.missing = time.Time{}
		}
	}
	if facts != nil {
		f.r.opts.Logger.Info("rollcall: watch recovered", append([]any{"registry", f.r.String(), "key", f.key}, facts...)...)
	}
}

// isSuspect reports whether an absence may be an effect of an outage: the store came back without its data, and may get it back. f.mu is
// locked.
func (f *valueFeed) isSuspect(now time.Time) bool {
	recently := !f.recovered.IsZero() && now.Sub(f.recovered) < f.r.shortGrace()
	return f.state.known && f.state.value != nil && !f.deletes && (f.absence != nil || recently)
}

// withhold keeps the last good value beside an error until the absence is published after all. A registry that flaps interrupts grace
// periods, so all of them together have a limit. f.mu is locked.
func (f *valueFeed) withhold(now time.Time) {
	if f.absence != nil {
		return
	}
	if f.missing.IsZero() {
		f.missing = now
	}
	grace := max(0, min(f.r.opts.OutageGrace, f.r.opts.OutageGrace+f.r.shortGrace()-now.Sub(f.missing)))
	var end *time.Timer
	end = time.AfterFunc(grace, func() { f.r.startRead(func() { f.graceOver(&end) }) })
	f.absence = end
	next := f.state
	if next.since.IsZero() {
		next.since = now
	}
	why := fmt.Errorf("%w: the registry answers again, but the key is missing; its value is kept for %v", ErrUnavailable, grace)
	f.report(next, why, true)
	f.r.logSuspect(&f.r.withheldLog, now, "rollcall: missing value withheld", "registry", f.r.String(), "key", f.key, "error", why)
}

// graceOver publishes the absence at the end of its grace period.
func (f *valueFeed) graceOver(end **time.Timer) {
	f.mu.Lock()
	news := f.absence == *end && f.ctx.Err() == nil
	if news {
		f.r.logSuspect(&f.r.publishedLog, time.Now(), "rollcall: missing value published after its grace period", "registry", f.r.String(), "key", f.key)
		f.accept(nil)
	}
	f.mu.Unlock()
	if news {
		f.save()
	}
}

// endWithholding ends a grace period.
func (f *valueFeed) endWithholding() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endWithholdingLocked()
}

func (f *valueFeed) endWithholdingLocked() {
	if f.absence != nil {
		f.absence.Stop()
		f.absence = nil
	}
}

// A watch that begins after a write of this Registry must not begin with the value from before. So the feed notes writes, and a reader
// that comes before the next answer waits for it.

// setDeletes records whether this Registry deletes the key, or deleted it by its last write.
func (f *valueFeed) setDeletes(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deletes, f.unsure = yes, false
}

// mayHaveDeleted notes that an attempt to delete the key has failed with an unknown result. The next answer shows the result.
func (f *valueFeed) mayHaveDeleted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsure = f.deletes
}

// hasDeleted records that this Registry deleted the key. answers is the number of reads before the delete; if more have succeeded since,
// they may already show it. An absence that was withheld is published: the store does not report it again.
func (f *valueFeed) hasDeleted(answers int) {
	f.mu.Lock()
	f.state.wrote = 0
	f.state.deleted = f.answers == answers && f.state.value != nil && f.state.err == nil
	news := f.absence != nil && f.ctx.Err() == nil && f.accept(nil)
	f.mu.Unlock()
	if news {
		f.r.startRead(f.save)
	}
}

// answerCount returns how many reads have succeeded.
func (f *valueFeed) answerCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers
}

// wrote records the revision that this Registry has written.
func (f *valueFeed) wrote(revision uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.wrote = revision
}

// seesWrites records that readers need not wait for another answer.
func (f *valueFeed) seesWrites() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.wrote, f.state.deleted = 0, false
}

// accept makes value the state, without an error, and reports whether it is news. f.mu is locked.
func (f *valueFeed) accept(value *Value) bool {
	f.endWithholdingLocked()
	f.missing = time.Time{}
	old := f.state
	if value != nil && (f.unsure || old.value == nil || value.Revision > old.value.Revision) {
		f.deletes, f.unsure = false, false // it was not deleted, or was written again
	}
	changed := !old.known || !old.value.equal(value)
	if !changed && old.err == nil {
		return false
	}
	next := valueState{value: value, known: true, news: old.news + 1, wrote: old.wrote}
	if value == nil && old.value != nil {
		next.wrote = 0 // it was deleted since
	}
	if !changed {
		next.value = old.value
	}
	f.set(next)
	return changed || old.origin != FromRegistry
}

// equal reports whether two values are the same write.
func (v *Value) equal(o *Value) bool {
	if v == nil || o == nil {
		return v == o
	}
	return v.Revision == o.Revision && bytes.Equal(v.Data, o.Data)
}

// fail makes err the error of the state. The value stays, or is the backup if there was no answer yet. fail returns when to try again.
func (f *valueFeed) fail(err error) retryTime {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failLocked(err)
}

func (f *valueFeed) failLocked(err error) retryTime {
	now := time.Now()
	f.endWithholdingLocked()
	next := f.state
	next.final = errors.Is(err, ErrClosed)
	news, facts := f.outage.failed(&f.shared, err, now)
	if !next.known && f.backup != nil && !next.final {
		next.value, next.known, next.origin, next.since = f.backup.value, true, f.backup.origin, f.backup.since
		news = true
	}
	if next.since.IsZero() {
		next.since = now
	}
	f.report(next, err, news)
	if facts != nil {
		f.logFailure(facts)
	}
	switch {
	case next.final:
		return retryNever
	case !next.known && (errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnsupported)):
		return retryLater
	}
	return retrySoon
}

// report makes next the state with err beside its value, and tells the readers if that is news. f.mu is locked.
func (f *valueFeed) report(next valueState, err error, news bool) {
	next.err = &Error{Op: "watch value", Key: f.key, Err: next.stale(err)}
	if !news {
		f.state = next
		return
	}
	next.news++
	f.set(next)
}

// logFailure logs the error of the state, with facts as attributes. f.mu is locked.
func (f *valueFeed) logFailure(facts []any) {
	text := "rollcall: watch failed, no value known yet"
	if f.state.known {
		text = "rollcall: watch failed, keeping last good value"
	}
	f.r.opts.Logger.Warn(text, append(facts, "registry", f.r.String(), "key", f.key, "error", cause(f.state.err))...)
}

// set makes s the state and wakes every reader. f.mu is locked.
func (f *valueFeed) set(s valueState) {
	f.state = s
	changed := f.changed
	f.changed = make(chan struct{})
	close(changed)
}

// now returns the state, and a channel that is closed when there is news in it.
func (f *valueFeed) now() (valueState, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.changed
}

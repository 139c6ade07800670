package registry

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// outages logs the outages of one registry for all its watches together. If fifty watches lose one registry, it logs one record, a
// second one 10 s later, at the earliest, with their number, and reminders. Failures of a single query, such as ErrDenied, are logged for each
// query, up to a [quota].
type outages struct {
	open atomic.Bool // whether there is an outage, so that a success without one costs nothing

	mu     sync.Mutex
	all    outage
	failed map[*shared]struct{} // the watches that fail now
	most   int                  // the largest size of failed in this outage
	told   int                  // the size of failed in the last record
	toldAt time.Time            // when the last record was logged, in this outage or an earlier one
	logged bool                 // this outage was logged
}

// moreFailedGap is the least time between two records if the second says that at least twice as many watches fail.
const moreFailedGap = 10 * time.Second

// fails records that the registry is out of reach for w. It reports whether to log that, and with which facts. The begin of an outage soon
// after another outage is not logged: a registry that flaps is logged once a minute.
func (o *outages) fails(w *shared, err error, now time.Time) (tell bool, facts []any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed == nil {
		o.failed = map[*shared]struct{}{}
	}
	o.failed[w] = struct{}{}
	o.most = max(o.most, len(o.failed))
	o.open.Store(true)
	begins, quiet := o.all.failures == 0, now.Sub(o.toldAt)
	news, remind := o.all.failed(err, now)
	if begins && quiet < sameKindGap {
		news = false
	}
	more := o.logged && len(o.failed) >= 2*o.told && quiet >= moreFailedGap
	if !news && !remind && !more {
		return false, nil
	}
	o.told, o.toldAt, o.logged = len(o.failed), now, true
	return true, []any{slog.Int("watches", len(o.failed)), slog.Int("attempts", o.all.failures)}
}

// works records an answer to w. It reports whether that ends an outage that was logged, and returns the facts of that outage.
func (o *outages) works(w *shared, now time.Time) (over bool, facts []any) {
	if !o.open.Load() {
		return false, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.failed, w)
	if len(o.failed) > 0 {
		o.told = min(o.told, len(o.failed)) // so that a new rise is logged
		return false, nil
	}
	failures, lasted, was := o.all.ended(now)
	facts = []any{slog.Int("watches", o.most), slog.Int("attempts", failures), slog.Duration("lasted", lasted.Round(time.Millisecond))}
	over = was && o.logged
	o.most, o.told, o.logged = 0, 0, false
	o.open.Store(false)
	return over, facts
}

// drop forgets w, which has ended. The outage goes on until another watch has an answer.
func (o *outages) drop(w *shared) {
	if !o.open.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.failed, w)
}

// watchOutage is the outage of one watch, with the failures that were logged for this watch alone. The feed's mutex guards it.
type watchOutage struct {
	outage
	refused refusals
}

// failed counts a failure of w. It reports whether the failure is news, and returns the facts to log, or nil if nothing is to be logged.
func (o *watchOutage) failed(w *shared, err error, now time.Time) (news bool, facts []any) {
	begins := o.failures == 0
	news, remind := o.outage.failed(err, now)
	kind := kindOf(err)
	if kind == ErrUnavailable {
		_, facts = w.r.outages.fails(w, err, now)
		return news, facts
	}
	tell, quiet := o.refused.failed(kind, begins, news, remind, &w.r.refusedLog, now)
	if !tell {
		return news, nil
	}
	facts = []any{"attempts", o.failures}
	if quiet > 0 {
		facts = append(facts, notLogged(quiet))
	}
	return news, facts
}

// answered records an answer to w. It reports whether that ends an outage, and how long the outage lasted. It returns the facts to log of
// the end, or nil if the begin was not logged.
func (o *watchOutage) answered(w *shared, now time.Time) (lasted time.Duration, was bool, facts []any) {
	failures, lasted, was := o.ended(now)
	over, facts := w.r.outages.works(w, now)
	if o.refused.ended() && !over {
		var quiet int
		over, quiet = w.r.acceptedLog.allow(now)
		facts = []any{"attempts", failures, "lasted", lasted.Round(time.Millisecond)}
		if quiet > 0 {
			facts = append(facts, notLogged(quiet))
		}
	}
	if !over {
		facts = nil
	}
	return lasted, was, facts
}

// refusals decide which failures that concern a single query, such as ErrDenied, are logged. The feed's mutex guards them.
type refusals struct {
	kind   error     // the kind of failure that was logged last
	at     time.Time // when it was logged
	logged bool      // a failure was logged in this outage
}

// failed reports whether to log a failure, and how many lines about other queries were left out before it. A failure that comes and goes is
// logged once a minute.
func (l *refusals) failed(kind error, begins, news, remind bool, q *quota, now time.Time) (tell bool, quiet int) {
	flaps := begins && kind == l.kind && now.Sub(l.at) < sameKindGap
	if flaps || !news && !remind {
		return false, 0
	}
	tell, quiet = q.allow(now)
	if tell {
		l.kind, l.at, l.logged = kind, now, true
	}
	return tell, quiet
}

// ended records the end of an outage, and reports whether a failure was logged in it.
func (l *refusals) ended() bool {
	was := l.logged
	l.logged = false
	return was
}

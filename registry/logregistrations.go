package registry

import (
	"log/slog"
	"sync"
	"time"
)

// failureLog logs the failures of one operation for all registrations of a Registry together. If fifty registrations lose one registry,
// it logs one record, a second one 10 s later, at the earliest, with their number, and reminders.
type failureLog struct {
	mu      sync.Mutex
	all     outage
	failing map[any]struct{} // the registrations or calls that fail now
	most    int              // the largest size of failing in this outage
	told    int              // the size of failing in the last record
	toldAt  time.Time        // when the last record was logged, in this outage or an earlier one
	kind    error            // the kind of failure in the last record
	open    bool             // this outage was logged
}

const (
	// moreFailingGap is the least time between two records if the second says that at least twice as many fail.
	moreFailingGap = 10 * time.Second
	// reminderOfWait is the longest time without a record while a caller waits.
	reminderOfWait = time.Minute
	// firstWait is how long a caller waits without an answer before the wait is logged.
	firstWait = 10 * time.Second
)

// failed records a failure of who, a registration or a call. It reports whether to log the failure, and with which facts. Reminders come
// at growing intervals; for a call that waits, remind logs them instead. A store that again and again accepts a registration and loses it
// at once is logged once a minute.
func (l *failureLog) failed(who any, err error, waits bool) (tell bool, facts []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	begins := l.all.failures == 0
	news, remind := l.all.failed(err, now)
	if l.failing == nil {
		l.failing = map[any]struct{}{}
	}
	l.failing[who] = struct{}{}
	l.most = max(l.most, len(l.failing))
	kind, quiet := kindOf(err), now.Sub(l.toldAt)
	if news && begins && kind == l.kind && quiet < sameKindGap {
		news = false // it flaps
	}
	more := l.open && len(l.failing) >= 2*l.told && quiet >= moreFailingGap
	if !news && !more && (waits || !remind) {
		return false, nil
	}
	return true, l.tell(kind)
}

// remind reports whether to log that a caller still waits, and after which time to ask again.
func (l *failureLog) remind() (tell bool, facts []any, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if quiet := time.Since(l.toldAt); quiet < reminderOfWait {
		return false, nil, reminderOfWait - quiet
	}
	return true, l.tell(l.kind), reminderOfWait
}

// tell returns the facts of a record, and remembers that it is logged now. l.mu is locked.
func (l *failureLog) tell(kind error) (facts []any) {
	l.told, l.toldAt, l.kind, l.open = len(l.failing), time.Now(), kind, true
	return []any{slog.Int("registrations", len(l.failing)), slog.Int("attempts", l.all.failures)}
}

// recovered records a success of who. It reports whether that ends an outage that was logged, and returns the facts of that outage.
func (l *failureLog) recovered(who any) (over bool, facts []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failing, who)
	if len(l.failing) > 0 {
		l.told = min(l.told, len(l.failing)) // so that a new rise is logged
		return false, nil
	}
	failures, lasted, was := l.all.ended(time.Now())
	over = was && l.open
	facts = []any{slog.Int("registrations", l.most), slog.Int("attempts", failures), slog.Duration("lasted", lasted.Round(time.Millisecond))}
	l.most, l.told, l.open = 0, 0, false
	return over, facts
}

// failureLogs are the failure logs of a Registry.
type failureLogs struct {
	renew, catchUp failureLog
	mu             sync.Mutex
	waiting        map[string]*failureLog // by operation
}

func (l *failureLogs) of(op string) *failureLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = map[string]*failureLog{}
	}
	if l.waiting[op] == nil {
		l.waiting[op] = new(failureLog)
	}
	return l.waiting[op]
}

// waiting is a call that waits for the registry. It logs at least once a minute.
type waiting struct {
	r               *Registry
	op, service, id string
	log             *failureLog
	timer           *time.Timer

	mu   sync.Mutex
	last error
}

func (r *Registry) newWaiting(op, service, id string) *waiting {
	w := &waiting{r: r, op: op, service: service, id: id, log: r.failures.of(op)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(firstWait, w.remind)
	return w
}

// end is called when the call has an answer or gives up.
func (w *waiting) end() {
	w.mu.Lock()
	w.timer.Stop()
	w.timer = nil
	w.mu.Unlock()
	w.log.recovered(w)
}

func (w *waiting) failed(err error) {
	w.mu.Lock()
	w.last = err
	w.mu.Unlock()
	if tell, facts := w.log.failed(w, err, true); tell {
		w.warn("rollcall: operation failed, retrying", err, facts)
	}
}

// remind runs on the timer: an attempt may take longer than a minute to fail.
func (w *waiting) remind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	tell, facts, next := w.log.remind()
	w.timer.Reset(next)
	switch {
	case !tell:
	case w.last == nil:
		w.warn("rollcall: operation has no answer yet, waiting", nil, facts)
	default:
		w.warn("rollcall: operation failed, retrying", w.last, facts)
	}
}

func (w *waiting) warn(text string, err error, facts []any) {
	w.r.opts.Logger.Warn(text, append([]any{"op", w.op, "registry", w.r.String(), "service", w.service, "id", w.id, "error", err}, facts...)...)
}

package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// faults are all faults of a history that have begun. They decide what happens to each request.
type faults struct {
	seed  uint64
	store *store

	mu      sync.Mutex
	all     []fault
	calls   map[string]int // by process and operation: so many requests were made
	changed chan struct{}  // closed, and replaced, when a fault begins or ends
	timers  []*time.Timer
}

type fault struct {
	Step
	from, until time.Time
}

// hits reports whether the fault is in effect for a process at a time.
func (f *fault) hits(process int, at time.Time) bool {
	return (f.Process < 0 || f.Process == process) && !at.Before(f.from) && at.Before(f.until)
}

func newFaults(seed uint64, s *store) *faults {
	return &faults{seed: seed, store: s, calls: map[string]int{}, changed: make(chan struct{})}
}

// begin starts a fault, which ends by itself.
func (f *faults) begin(s Step) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fault{Step: s, from: now, until: now.Add(s.For)})
	f.timers = append(f.timers, time.AfterFunc(s.For, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wake()
	}))
	f.wake()
}

func (f *faults) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *faults) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.timers {
		t.Stop()
	}
}

// now returns the fault that a process meets, the newest if there are several, and a channel that is closed when that may change. The
// fault has no Op if there is none.
func (f *faults) now(process int) (Step, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, one := range slices.Backward(f.all) {
		if one.hits(process, now) {
			return one.Step, f.changed
		}
	}
	return Step{}, f.changed
}

// hitSince reports whether a process has met one of ops since a time, or any fault if there are no ops.
func (f *faults) hitSince(process int, since time.Time, ops ...Op) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.all {
		one := &f.all[i]
		if (one.Process < 0 || one.Process == process) && one.until.After(since) && (len(ops) == 0 || slices.Contains(ops, one.Op)) {
			return true
		}
	}
	return false
}

// healthySince returns since when a process has met no fault: now if it meets one.
func (f *faults) healthySince(process int, now time.Time) (since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.all {
		if (one.Process < 0 || one.Process == process) && one.until.After(since) {
			since = one.until
		}
	}
	if since.After(now) {
		return now
	}
	return since
}

// dice returns a number below 1 for the next request of an operation of a process. It does not depend on what other requests there were.
func (f *faults) dice(process int, operation string) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := fmt.Sprint(process, " ", operation)
	f.calls[what]++
	return chance(f.seed, what, f.calls[what])
}

// meets returns what one request of a process meets: a fault that is not Flaky.
func (f *faults) meets(process int, operation string) (Step, float64) {
	step, _ := f.now(process)
	dice := f.dice(process, operation)
	if step.Op == Flaky {
		kinds := []Op{Refuse, Deny, HideAnswer, Late, Slow, "", ""}
		step.Op = kinds[int(dice*float64(len(kinds)))]
		step.By = time.Duration(dice * float64(time.Second))
	}
	return step, dice
}

// outcome is what came of a request.
type outcome struct {
	err     error
	unknown bool // the request was carried out, or may be later, although there is an error
	late    bool // it may be carried out later
}

var errRefused = fmt.Errorf("%w: connection refused", registry.ErrUnavailable)

// write carries one request of a process to the store, in one of the ways that a fault allows. It calls apply once at most, perhaps after
// it has returned.
func (f *faults) write(ctx context.Context, process int, operation string, apply func(late bool) error) outcome {
	fault, dice := f.meets(process, operation)
	quick := time.Duration(dice * float64(5*time.Millisecond))
	switch fault.Op {
	case Refuse, Restart, RestartOld, Wipe:
		return outcome{err: errRefused}
	case Deny:
		return outcome{err: fmt.Errorf("%w: token refused", registry.ErrDenied)}
	case HideAnswer:
		apply(false)
		return outcome{err: fmt.Errorf("%w: connection reset", registry.ErrUnavailable), unknown: true}
	case Late:
		f.applyLater(fault.By, apply)
		sleep.For(ctx, quick)
		return outcome{err: unavailable(ctx, "connection reset"), unknown: true, late: true}
	case Hang:
		return f.hang(ctx, dice, apply)
	case Slow:
		quick = fault.By
	}
	restarts := f.store.restartCount()
	if !sleep.For(ctx, quick/2) {
		f.applyLater(quick/2, apply)
		return outcome{err: ctx.Err(), unknown: true, late: true}
	}
	if f.store.restartCount() != restarts {
		return outcome{err: errRefused}
	}
	err := apply(false)
	if !sleep.For(ctx, quick/2) {
		return outcome{err: ctx.Err(), unknown: true}
	}
	return outcome{err: err}
}

// hang blocks as a request without an answer does.
func (f *faults) hang(ctx context.Context, dice float64, apply func(late bool) error) outcome {
	o := outcome{}
	switch {
	case dice < 0.3:
		apply(false)
		o.unknown = true
	case dice < 0.6:
		f.applyLater(time.Duration(dice*float64(maxLate)), apply)
		o.unknown, o.late = true, true
	}
	sleep.For(ctx, requestLimit)
	o.err = unavailable(ctx, "no answer")
	return o
}

// applyLater carries out a request after a while, unless the store restarts before that.
func (f *faults) applyLater(after time.Duration, apply func(late bool) error) {
	restarts := f.store.restartCount()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timers = append(f.timers, time.AfterFunc(after, func() {
		if f.store.restartCount() == restarts {
			apply(true)
		}
	}))
}

// unavailable returns the error of ctx if it has ended, and otherwise that the store cannot be reached.
func unavailable(ctx context.Context, why string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", registry.ErrUnavailable, why)
}

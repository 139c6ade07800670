package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// reader is what both kinds of sources have in common.
type reader struct {
	d        *driver
	what     string
	begun    bool // the last Next has succeeded
	seen     int  // the state that it returned
	failures int  // of Next, in a row
	failedAt time.Time
}

// next blocks until there is something new to see, and calls look with the time whose state it is. look reports whether the state is
// news, and returns what to wait for otherwise.
func (r *reader) next(ctx context.Context, look func(at time.Time) (news bool, changed <-chan struct{})) error {
	r.d.model.reads(r)
	err := r.await(ctx, look)
	switch {
	case err == nil:
		r.begun, r.failures = true, 0
	case ctx.Err() == nil:
		r.begun, r.failedAt = false, time.Now()
		r.failures++
		r.d.model.trace("   p%d read %s failed: %v", r.d.process, r.what, err)
	}
	return err
}

func (r *reader) await(ctx context.Context, look func(time.Time) (bool, <-chan struct{})) error {
	d := r.d
	hangs := time.Time{}
	for first := true; ; first = false {
		if d.isCrashed() {
			return errCrashed
		}
		fault, faultChanged := d.faults.now(d.process)
		if fault.Op == Flaky && first {
			fault, _ = d.faults.meets(d.process, "read "+r.what)
		}
		var again <-chan time.Time
		var storeChanged <-chan struct{}
		if fault.Op != Hang {
			hangs = time.Time{}
		}
		switch fault.Op {
		case Refuse, Restart, RestartOld, Wipe:
			return errRefused
		case Hang:
			if hangs.IsZero() {
				hangs = time.Now()
			}
			left := requestLimit - time.Since(hangs)
			if left <= 0 {
				return fmt.Errorf("%w: no answer", registry.ErrUnavailable)
			}
			again = time.After(left)
		default:
			if first && fault.Op == Slow && !sleep.For(ctx, fault.By) {
				return ctx.Err()
			}
			at := time.Now()
			if fault.Op == Old {
				at = at.Add(-fault.By)
				again = time.After(100 * time.Millisecond)
			}
			news, changed := look(at)
			if news || !r.begun {
				return nil
			}
			storeChanged = changed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.crashed:
		case <-faultChanged:
		case <-storeChanged:
		case <-again:
		}
	}
}

// source implements [registry.Source].
type source struct {
	reader
	query registry.Query
	at    time.Time // up to which the state was seen
}

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) (registry.Set, error) {
	var state setState
	var until time.Time
	number := 0
	err := s.next(ctx, func(at time.Time) (bool, <-chan struct{}) {
		var changed <-chan struct{}
		number, state, changed = s.d.store.setAt(s.query.Service, at)
		until = at
		return number != s.seen, changed
	})
	s.d.model.answered(s, state, err)
	if err != nil {
		return registry.Set{}, err
	}
	var set registry.Set
	for _, e := range state.entries {
		if s.query.Matches(e.in) {
			set.Instances = append(set.Instances, e.in)
		}
	}
	if s.d.world.Departures && !s.at.IsZero() {
		set.Departed = s.d.store.departures(s.query.Service, s.at, until)
	}
	if until.After(s.at) {
		s.at = until
	}
	s.seen = number
	return set, nil
}

// Close implements [registry.Source].
func (s *source) Close() error { return nil }

// valueSource implements [registry.ValueSource].
type valueSource struct {
	reader
	key string
}

// Next implements [registry.ValueSource].
func (s *valueSource) Next(ctx context.Context) (*registry.Value, error) {
	var state valueState
	number := 0
	err := s.next(ctx, func(at time.Time) (bool, <-chan struct{}) {
		var changed <-chan struct{}
		number, state, changed = s.d.store.valueAt(s.key, at)
		return number != s.seen, changed
	})
	if err != nil {
		return nil, err
	}
	s.seen = number
	return state.value, nil
}

// Close implements [registry.ValueSource].
func (s *valueSource) Close() error { return nil }

package registry

import (
	"context"
	"slices"
)

// Lookup implements [Discovery].
func (r *Registry) Lookup(ctx context.Context, q Query) ([]*Instance, error) {
	set, err := r.lookup(ctx, q)
	if err != nil {
		err = &Error{Op: "lookup", Service: q.Service, Err: err}
	}
	return set, err
}

func (r *Registry) lookup(ctx context.Context, q Query) ([]*Instance, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil && !r.watches(q) {
		return r.rememberedBeside(err, q)
	}
	f, started, err := r.joinQuietly(q)
	if err != nil {
		return nil, err
	}
	defer f.leave()
	st, err := f.lookup(ctx, started)
	return slices.Clone(st.view(q).set), err
}

// watches reports whether there is a feed for q, or r is closed, so that there can be none.
func (r *Registry) watches(q Query) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.feeds[q.wide().key()] != nil || r.unusable() != nil
}

// rememberedBeside returns the set that is remembered for q, and err beside it.
func (r *Registry) rememberedBeside(err error, q Query) ([]*Instance, error) {
	r.mu.Lock()
	g := r.remembered.find(q.wide().key())
	r.mu.Unlock()
	if g == nil {
		return nil, err
	}
	set, _ := merge(nil, g.instances, q)
	return slices.Clone(set), &StaleError{Since: g.since, Origin: g.origin, Err: err}
}

// lookup decides whether a Lookup gets the state of the shared watch, or makes a read of its own because that state is known to lack
// something. first says that this Lookup started the feed.
func (f *feed) lookup(ctx context.Context, first bool) (state, error) {
	st, err := f.first(ctx, first)
	switch {
	case ctx.Err() != nil && err == nil && (f.isBehind() || f.misses()):
		st = f.bestKnown()
		return st, st.stale(ctx.Err())
	case ctx.Err() != nil: // no time is left for a read
		return st, err
	case f.isBehind():
		return f.read(ctx, 0)
	case err == nil && f.misses(): // beside an error the set may be out of date anyway
		return f.readForWrites(ctx)
	}
	st, _ = f.now() // it may have caught up in between
	return st, cause(st.err)
}

// first returns the state, and the error beside it. It waits if there is neither a set nor an error yet. Only a reader that finds an answer
// at once ends the LookupPause. A Lookup that waits for the first read, or causes it, leaves the pause in place.
func (f *feed) first(ctx context.Context, started bool) (state, error) {
	for waited := started; ; waited = true {
		st, changed := f.now()
		if st.known || st.err != nil {
			if !waited {
				f.endPause()
			}
			return st, cause(st.err)
		}
		select {
		case <-ctx.Done():
			st := f.bestKnown()
			return st, st.stale(f.r.unanswered(ctx.Err()))
		case <-f.r.ctx.Done():
			st := f.bestKnown()
			return st, st.stale(ErrClosed)
		case <-changed:
		}
	}
}

// bestKnown returns the state with the newest known set: the set that a Lookup has read since the last set was published, or the backup if
// there was no answer yet.
func (f *feed) bestKnown() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.lookups.newest != nil:
		return *f.lookups.newest
	case !f.state.known && f.backup != nil:
		return f.fromBackup()
	}
	return f.state
}

// cause returns the error inside the *Error of a feed: each call wraps that in an *Error of its own.
func cause(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

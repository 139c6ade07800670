package registry

import (
	"context"
	"iter"
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
	if f := r.joinLive(q); f != nil {
		defer r.leave(f)
		return f.first(ctx)
	}
	opCtx, end, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	src := r.driver.Follow(q.normal())
	defer src.Close()
	raw, err := src.Next(opCtx)
	r.logUnreadable(q.Service, src)
	if err != nil {
		return r.fromDisk(q, r.classify(ctx, err))
	}
	set, _ := merge(nil, raw, q)
	return set, nil
}

// first returns what the feed knows, and waits for it where that is nothing yet.
func (f *feed) first(ctx context.Context) ([]*Instance, error) {
	for {
		st, changed := f.now()
		if st.known || st.err != nil {
			return slices.Clone(st.set), cause(st.err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.r.ctx.Done():
			return nil, ErrClosed
		case <-changed:
		}
	}
}

// cause takes the *Error of a feed off: each call puts its own around the rest.
func cause(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

// Watch implements [Discovery].
func (r *Registry) Watch(ctx context.Context, q Query) iter.Seq2[[]*Instance, error] {
	fail := func(err error) error { return &Error{Op: "watch", Service: q.Service, Err: err} }
	return func(yield func([]*Instance, error) bool) {
		if err := q.Validate(); err != nil {
			yield(nil, fail(err))
			return
		}
		if ctx.Err() != nil {
			return
		}
		f, err := r.join(q)
		if err != nil {
			yield(nil, fail(err))
			return
		}
		defer r.leave(f)
		var seen state
		for {
			st, changed := f.now()
			if ctx.Err() != nil {
				return
			}
			if st.revision != seen.revision || errText(st.err) != errText(seen.err) {
				seen = st
				if !yield(slices.Clone(st.set), st.err) || st.final {
					return
				}
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				yield(slices.Clone(st.set), fail(ErrClosed))
				return
			case <-changed:
			}
		}
	}
}

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
		return f.first(ctx, q)
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
	return slices.Clone(set), nil // the caller may change it, and what a Source returned must not change
}

// first returns what the feed knows of q, and waits for it where that is nothing yet.
func (f *feed) first(ctx context.Context, q Query) ([]*Instance, error) {
	for {
		st, changed := f.now()
		if st.known || st.err != nil {
			return slices.Clone(st.view(q).set), cause(st.err)
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
		seen, seenErr := 0, ""
		for {
			st, changed := f.now()
			now := st.view(q)
			if ctx.Err() != nil {
				return
			}
			if now.revision != seen || errText(st.err) != seenErr {
				seen, seenErr = now.revision, errText(st.err)
				if !yield(slices.Clone(now.set), st.err) || st.final {
					return
				}
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				yield(slices.Clone(now.set), fail(ErrClosed))
				return
			case <-changed:
			}
		}
	}
}

// Known returns the set that the Registry holds for q because something watches it, or did until a while ago, and whether
// there is one. It may be out of date, as the last good set of a watch may. It asks nobody and does not block.
func (r *Registry) Known(q Query) ([]*Instance, bool) {
	f := r.joinLive(q)
	if f == nil {
		return nil, false
	}
	defer r.leave(f)
	st, _ := f.now()
	return slices.Clone(st.view(q).set), st.known
}

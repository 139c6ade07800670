package registry

import (
	"context"
	"iter"
	"slices"
	"time"
)

// behindTimeout bounds how long a new reader waits for the shared watch to catch up with a store in this process. Without that wait, a
// channel that is made after a Lookup could start with the set from before. A read that finds the same set wakes no reader, so the wait
// needs a limit.
const behindTimeout = 100 * time.Millisecond

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
		defer f.leave()
		seen, news := 0, 0
		for waited := false; ; waited = true {
			st, changed := f.now()
			now := st.view(q)
			if ctx.Err() != nil {
				return
			}
			isOld := !waited && st.known && st.err == nil && f.isBehind()
			if !isOld && (now.revision != seen || st.newsCount != news) {
				seen, news = now.revision, st.newsCount
				if !yield(slices.Clone(now.set), st.err) || st.final {
					return
				}
				continue
			}
			var read <-chan time.Time
			if isOld {
				read = time.After(behindTimeout)
			}
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				yield(slices.Clone(now.set), fail(st.stale(ErrClosed)))
				return
			case <-changed:
			case <-read:
			}
		}
	}
}

package registry

import (
	"context"
	"fmt"
)

// isDoubtful reports whether set comes right after an outage and leaves nothing of what there was, or nothing that passes.
// See [Options.EmptyHold]. f.mu is held.
func (f *feed) isDoubtful(set []*Instance) bool {
	old := &f.state
	return old.err != nil && f.r.opts.EmptyHold > 0 &&
		(len(set) == 0 && len(old.all.set) > 0 || len(old.passing.set) > 0 && len(passingOf(set)) == 0)
}

// doubt begins to doubt set, unless the feed doubts its set already: then that is in question which is newest. f.mu is held.
func (f *feed) doubt(set []*Instance) {
	f.doubted = set
	if f.unhold != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	f.unhold = cancel
	hold := f.r.opts.EmptyHold
	news := fmt.Sprintf("has none of the %d instances from before", len(f.state.all.set))
	if len(set) > 0 {
		news = fmt.Sprintf("none of the %d instances from before passes", len(f.state.passing.set))
	}
	f.report(f.state, fmt.Errorf("%w: the registry answers again, but %s; it is believed after %v", ErrUnavailable, news, hold))
	// Close waits for it: the goroutine of the feed, which is here, is one that it waits for already.
	f.r.work.Go(func() {
		defer cancel()
		if sleep(ctx, hold) {
			f.believe(ctx)
		}
	})
}

// believe publishes the set in doubt, unless the doubt has ended otherwise.
func (f *feed) believe(ctx context.Context) {
	f.mu.Lock()
	set := f.doubted
	news := ctx.Err() == nil && f.accept(set, false)
	f.mu.Unlock()
	if news {
		f.r.save(f.query, set)
	}
}

// endHold ends the doubt, whatever it led to: another set, another error, belief. f.mu is held.
func (f *feed) endHold() {
	if f.unhold != nil {
		f.unhold()
		f.unhold, f.doubted = nil, nil
	}
}

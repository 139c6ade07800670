package registry

import (
	"context"
	"fmt"
)

// holdEmpty begins to doubt an empty set that came right after an outage, unless it does so already. See
// [Options.EmptyHold]. f.mu is held.
func (f *feed) holdEmpty() {
	if f.unhold != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	f.unhold = cancel
	hold := f.r.opts.EmptyHold
	f.report(f.state, fmt.Errorf("%w: the registry answers again, but has none of the %d instances from before; it is believed after %v",
		ErrUnavailable, len(f.state.set), hold))
	// Close waits for it: the goroutine of the feed, which is here, is one that it waits for already.
	f.r.work.Go(func() {
		defer cancel()
		if sleep(ctx, hold) {
			f.believe(ctx)
		}
	})
}

// believe publishes the empty set, unless the doubt has ended otherwise.
func (f *feed) believe(ctx context.Context) {
	f.mu.Lock()
	empty := []*Instance{}
	news := ctx.Err() == nil && f.accept(empty, false)
	f.mu.Unlock()
	if news {
		f.r.save(f.query, empty)
	}
}

// endHold ends the doubt, whatever it led to: another set, another error, belief. f.mu is held.
func (f *feed) endHold() {
	if f.unhold != nil {
		f.unhold()
		f.unhold = nil
	}
}

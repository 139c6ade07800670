package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// keep holds the announcement until Deregister or Close, and never gives up in between.
func (g *registration) keep() {
	defer close(g.done)
	retry := g.r.newBackoff()
	for {
		since := time.Now()
		err := g.hold()
		if g.ctx.Err() != nil {
			return
		}
		retry.stood(time.Since(since))
		g.lost(err)
		if errors.Is(err, ErrReplaced) && !g.standAside() {
			return
		}
		for retry.wait(g.ctx) {
			if err = g.announce(); err == nil {
				break
			}
			g.lost(err)
			if errors.Is(err, ErrReplaced) && !g.standAside() {
				return
			}
		}
		if g.ctx.Err() != nil {
			return
		}
	}
}

// hold blocks while the announcement stands, and returns why it no longer does.
func (g *registration) hold() error {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	g.mu.Lock()
	lease := g.lease
	g.renew = cancel
	pending := g.err
	g.mu.Unlock()
	if pending != nil {
		return pending // an Update gave up between the announcement and now
	}
	err := lease.Keep(ctx)
	if ctx.Err() != nil && g.ctx.Err() == nil {
		g.mu.Lock()
		pending = g.err
		g.mu.Unlock()
		switch { // an Update may know before Keep that another has the ID
		case errors.Is(pending, ErrReplaced):
			return pending
		case !errors.Is(err, ErrReplaced):
			return fmt.Errorf("%w: an update could not be written yet", ErrUnavailable)
		}
	}
	if err == nil {
		return fmt.Errorf("%w: the entry was released by nobody here", ErrUnavailable)
	}
	return g.r.classify(g.ctx, err)
}

// lost notes why the announcement does not stand, and logs it unless it did so for the same reason before.
func (g *registration) lost(err error) {
	g.mu.Lock()
	repeated := errText(g.err) == errText(err)
	g.err = err
	g.mu.Unlock()
	if !repeated {
		g.r.opts.Logger.Warn("rollcall: the announcement does not stand; it is made again until it does",
			"registry", g.r.String(), "service", g.service, "id", g.id, "error", err)
	}
}

// standAside waits until the entry of the registration that took this one's ID over has gone.
func (g *registration) standAside() bool {
	g.mu.Lock()
	lease := g.lease
	g.mu.Unlock()
	l, ok := lease.(ReplacedChecker)
	if !ok {
		return g.standAsideBySets()
	}
	for sleep(g.ctx, g.r.opts.BackoffMax) && g.take(g.ctx) == nil {
		err := l.CheckReplaced(g.ctx)
		g.give()
		if err == nil {
			return true
		}
	}
	return false
}

// standAsideBySets is standAside for a store that cannot be asked. Some tell of being replaced before they show by whom, so an ID
// is free only when no set has had it for a while.
func (g *registration) standAsideBySets() bool {
	f, err := g.r.join(Query{Service: g.service, AnyStatus: true})
	if err != nil {
		return false
	}
	defer g.r.leave(f)
	var since time.Time // when the ID was first missing
	for {
		st, changed := f.now()
		var free <-chan time.Time
		if st.known && st.err == nil && !hasID(st.all.set, g.id) {
			if since.IsZero() {
				since = time.Now()
			}
			t := time.NewTimer(g.r.opts.BackoffMax - time.Since(since))
			defer t.Stop()
			free = t.C
		} else {
			since = time.Time{}
		}
		select {
		case <-free:
			return true
		case <-changed:
		case <-g.ctx.Done():
			return false
		}
	}
}

func hasID(set []*Instance, id string) bool {
	return slices.ContainsFunc(set, func(in *Instance) bool { return in.ID == id })
}

// announce makes one attempt to announce want afresh.
func (g *registration) announce() error {
	if err := g.take(g.ctx); err != nil {
		return err
	}
	defer g.give()
	g.mu.Lock()
	want, lease, gone := g.want, g.lease, g.gone
	g.mu.Unlock()
	if gone {
		return ErrClosed // Deregister had its turn before: what it released must stay so
	}
	if l, ok := lease.(ReplacedChecker); ok {
		if err := l.CheckReplaced(g.r.ctx); errors.Is(err, ErrReplaced) {
			return err // what else it says, the announcement says too, or does without
		}
	}
	lease, err := g.r.driver.Announce(g.r.ctx, want)
	if err != nil {
		err = g.r.classify(g.r.ctx, err)
		g.refuse(want, err)
		return err
	}
	g.mu.Lock()
	g.lease, g.written, g.err = lease, want, nil
	g.wake()
	gone = g.gone
	g.mu.Unlock()
	if gone {
		// Deregister came during the attempt. It may have given up waiting, so the entry is taken back here.
		return g.release(g.r.ctx)
	}
	g.r.opts.Logger.Info("rollcall: announced again", "registry", g.r.String(), "service", g.service, "id", g.id)
	return nil
}

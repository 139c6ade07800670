package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// keepRegistered runs until Deregister or Close. Whenever the entry is lost it registers the instance again, and it never gives up.
func (g *registration) keepRegistered() {
	defer g.goroutineEnded()
	defer g.r.failures.renew.recovered(g)
	retry := g.r.newBackoff()
	for {
		since := time.Now()
		err := g.waitForLoss()
		retry.worked(time.Since(since))
		for err != nil {
			if g.ctx.Err() != nil {
				return
			}
			g.noteLoss(err)
			if errors.Is(err, ErrReplaced) && !g.yield() {
				return
			}
			if !retry.wait(g.ctx) {
				return
			}
			err = g.registerAgain()
		}
	}
}

// waitForLoss renews the lease until the entry is lost, and returns why it was.
func (g *registration) waitForLoss() error {
	ctx, cancel := context.WithCancelCause(g.ctx)
	defer cancel(nil)
	g.mu.Lock()
	lease, replaced := g.lease, g.replaced
	g.endWait = func() { cancel(nil) }
	g.mu.Unlock()
	if replaced != nil {
		return replaced
	}
	err := renewAndWait(ctx, cancel, lease)
	g.mu.Lock()
	g.endWait, replaced = nil, g.replaced
	g.mu.Unlock()
	switch {
	case replaced != nil:
		return replaced
	case err == nil:
		return fmt.Errorf("%w: the entry was released, but not by this registration", ErrUnavailable)
	}
	return g.r.classify(g.ctx, err)
}

// noteLoss records err as the reason why the instance is not registered, and logs it: see failureLog.
func (g *registration) noteLoss(err error) {
	replaced := errors.Is(err, ErrReplaced)
	g.mu.Lock()
	before := errors.Is(g.err, ErrReplaced)
	lost := g.err == nil || replaced && !before
	if lost {
		g.since = time.Now()
		g.losses++
	}
	g.err = err
	g.mu.Unlock()
	if lost {
		g.r.emit(pendingEvent{Event: Event{Kind: RegistrationLost, Service: g.service, ID: g.id, Err: g.error("renew", err)}})
	}
	log := &g.r.failures.renew
	if replaced {
		log.recovered(g) // what follows has nothing to do with an outage
		if !before {
			g.warn("rollcall: registration replaced by a newer one, standing by", err, nil)
		}
		return
	}
	if tell, facts := log.failed(g, err, false); tell {
		g.warn("rollcall: registration lost, re-registering", err, facts)
	}
}

// yield blocks until the entry of the registration that has replaced this one is gone. It reports false if Deregister or Close ended
// that.
func (g *registration) yield() bool {
	for sleep.For(g.ctx, g.r.opts.BackoffMax) && g.lock(g.ctx) == nil {
		g.mu.Lock()
		lease := g.lease
		g.mu.Unlock()
		err := lease.CheckReplaced(g.ctx)
		g.unlock()
		if err == nil {
			return true
		}
	}
	return false
}

// registerAgain makes one attempt to register the newest content.
func (g *registration) registerAgain() error {
	if err := g.lock(g.ctx); err != nil {
		return err
	}
	err := g.registerAgainLocked()
	g.unlockAfterWrite()
	if err == nil {
		g.catchUpLater()
	}
	return err
}

// registerAgainLocked is registerAgain for a caller that has the writer lock.
func (g *registration) registerAgainLocked() error {
	g.mu.Lock()
	w, prev, deregistered := g.newest(), g.lease, g.deregistered
	g.mu.Unlock()
	if deregistered {
		return ErrClosed // Deregister was here first: what it released must stay released
	}
	if err := prev.CheckReplaced(g.r.ctx); errors.Is(err, ErrReplaced) {
		return err // any other error does not matter: Register has the same error, or succeeds in spite of it
	}
	in, err := g.fill(g.r.ctx, w)
	var lease Lease
	if err == nil {
		lease, err = g.r.driver.Register(g.r.ctx, in, prev)
	}
	if err != nil {
		return g.registerFailed(w, lease, g.r.classify(g.r.ctx, err))
	}
	g.mu.Lock()
	now := time.Now()
	lasted := now.Sub(g.since)
	g.lease, g.err, g.replaced, g.since = lease, nil, nil, now
	g.finish(w, in)
	close(g.restored)
	g.restored = make(chan struct{})
	deregistered = g.deregistered
	g.mu.Unlock()
	g.r.emit(pendingEvent{Event: Event{Kind: Reregistered, Service: g.service, ID: g.id, Took: lasted}})
	if over, facts := g.r.failures.renew.recovered(g); over && !deregistered {
		g.logRegisteredAgain(facts)
	}
	return nil
}

// registerFailed records that w was not written, and the lease that the attempt returned beside err. It returns err.
func (g *registration) registerFailed(w *wish, lease Lease, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if lease != nil {
		g.lease = lease
	}
	if refusesContent(err) { // if the store denied it, it would deny the old content as well
		g.refuse(w, err)
	}
	return err
}

// logRegisteredAgain logs that the instance is registered again, together with the others that were lost.
func (g *registration) logRegisteredAgain(facts []any) {
	g.r.opts.Logger.Info("rollcall: registered again", append([]any{"registry", g.r.name, "service", g.service, "id", g.id}, facts...)...)
}

func (g *registration) warn(text string, err error, facts []any) {
	g.r.opts.Logger.Warn(text, append([]any{"registry", g.r.name, "service", g.service, "id", g.id, "error", err}, facts...)...)
}

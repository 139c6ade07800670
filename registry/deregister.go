package registry

import (
	"context"
	"time"
)

// Deregister implements [Registration].
func (g *registration) Deregister(ctx context.Context) error {
	g.reportDeparture() // a watch may notice before this returns
	if err := g.deregister(ctx); err != nil {
		return g.error("deregister", err)
	}
	g.reportDeparture() // it may have taken long
	g.r.wrote(g.service)
	return nil
}

func (g *registration) deregister(ctx context.Context) error {
	g.mu.Lock()
	g.deregistered = true
	released := g.released
	g.mu.Unlock()
	g.stop()
	if released {
		<-g.done
		return nil
	}
	opCtx, end, err := g.r.beginRelease(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err = g.lockToRelease(opCtx); err == nil {
		err = g.r.retry(ctx, opCtx, "deregister", g.service, g.id, g.release)
		g.unlock()
	}
	if err != nil && !g.isReleased() { // Close may have done it
		return g.r.classify(ctx, err)
	}
	select {
	case <-g.done: // Close ends the keeper, too
		return nil
	case <-ctx.Done():
		return g.r.classify(ctx, ctx.Err())
	}
}

func (g *registration) isReleased() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.released
}

// release releases the lease. The caller has the writer lock.
func (g *registration) release(ctx context.Context) error {
	g.mu.Lock()
	lease, released := g.lease, g.released
	g.mu.Unlock()
	if released {
		return nil
	}
	if err := lease.Release(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	g.released = true
	g.mu.Unlock()
	g.r.mu.Lock()
	delete(g.r.registrations, g)
	g.r.mu.Unlock()
	g.r.emit(pendingEvent{Event: Event{Kind: Deregistered, Service: g.service, ID: g.id}})
	return nil
}

// lockToRelease is lock for a Deregister. A write in flight ends first, and the entry that it wrote is released after it. So nothing can
// bring the entry back.
func (g *registration) lockToRelease(ctx context.Context) error {
	g.mu.Lock()
	g.releasers++
	g.mu.Unlock()
	err := g.lock(ctx)
	g.mu.Lock()
	g.releasers--
	g.mu.Unlock()
	return err
}

// unlockAfterWrite unlocks the writer lock after a write. If a Deregister came during that write and gave up waiting for it, the
// entry is released here.
func (g *registration) unlockAfterWrite() {
	defer g.unlock()
	g.mu.Lock()
	unattended := g.deregistered && g.releasers == 0
	g.mu.Unlock()
	if !unattended {
		return
	}
	ctx, cancel := context.WithTimeout(g.r.ctx, releaseTimeout)
	defer cancel()
	if err := g.release(ctx); err != nil && g.r.ctx.Err() == nil {
		g.warn("rollcall: release failed, the entry expires", err, nil)
	}
}

// releaseTimeout bounds releasing an entry for which no caller waits.
const releaseTimeout = 5 * time.Second

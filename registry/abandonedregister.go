package registry

import "context"

// If Register gives up, an attempt whose answer was lost may still have created the entry. The lease of that attempt is released in the
// background, unless another Register of the same ID comes first and goes on with it. A Deregister that fails is in deregister.go.

type entryID struct{ service, id string }

// abandonedLease is a lease that is being released.
type abandonedLease struct {
	lease    Lease
	stop     context.CancelFunc // ends the release
	done     chan struct{}      // closed when the release has ended
	released bool               // guarded by done
}

// abandon releases the lease of a Register that gave up. It does so in the background or, if Close has begun, before it returns.
func (r *Registry) abandon(of entryID, lease Lease) {
	if lease == nil {
		return
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		r.release(r.leaving, of, lease)
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, releaseTimeout)
	a := &abandonedLease{lease: lease, stop: cancel, done: make(chan struct{})}
	r.abandoned[of] = a
	r.registering.Add(1) // Close waits for it for as long as for a Register
	r.work.Go(func() {
		defer r.registering.Done()
		defer close(a.done)
		defer cancel()
		a.released = r.release(ctx, of, lease)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.abandoned[of] == a {
			delete(r.abandoned, of)
		}
	})
	r.mu.Unlock()
}

// resumeAbandoned ends the release of the lease that an earlier Register of the ID left. It returns that lease, or nil if the lease is
// released already.
func (r *Registry) resumeAbandoned(of entryID) Lease {
	r.mu.Lock()
	a := r.abandoned[of]
	delete(r.abandoned, of)
	r.mu.Unlock()
	if a == nil {
		return nil
	}
	a.stop()
	<-a.done
	if a.released {
		return nil
	}
	return a.lease
}

// release tries to release lease until ctx ends. It reports whether it succeeded. A failure is logged, unless ctx was cancelled.
func (r *Registry) release(ctx context.Context, of entryID, lease Lease) bool {
	retry := r.newBackoff()
	for {
		err := lease.Release(ctx)
		if err == nil {
			return true
		}
		if !retry.wait(ctx) {
			if ctx.Err() == context.DeadlineExceeded {
				r.opts.Logger.Warn("rollcall: release failed, the entry expires", "registry", r.name, "service", of.service, "id", of.id, "error", err)
			}
			return false
		}
	}
}

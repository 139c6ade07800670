package memory

import (
	"context"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// lease holds one entry in the store. Its fields below timer belong to the store's mutex.
type lease struct {
	client      *client
	service, id string

	timer    *time.Timer // expires the entry
	deadline time.Time
	over     bool
	why      error         // the entry is no longer the lease's own; nil after Release
	ended    chan struct{} // closed when it is over
}

// end makes l over. The store's mutex is held.
func (l *lease) end(why error) {
	l.over, l.why = true, why
	l.timer.Stop()
	close(l.ended)
}

// Keep implements [registry.Lease]. It renews the lease each third of its TTL.
func (l *lease) Keep(ctx context.Context) error {
	for {
		why, err := l.pause(ctx)
		if err != nil {
			return err
		}
		select {
		case <-l.ended:
			return why
		default:
		}
		err = l.client.call(ctx, func() <-chan struct{} {
			why = l.client.store.renew(l)
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// pause blocks until the next renewal is due or the lease is over. It returns a fault, but waits out a Hang: a client that
// is cut off does not learn that its lease is over.
func (l *lease) pause(ctx context.Context) (why, err error) {
	due, cancel := context.WithTimeout(ctx, l.client.ttl/3)
	defer cancel()
	err = l.client.wait(due, func() <-chan struct{} {
		if over, reason := l.client.store.state(l); over {
			why = reason
			return nil
		}
		return l.ended
	})
	if ctx.Err() == nil && due.Err() != nil {
		err = nil
	}
	return why, err
}

// Update implements [registry.Lease].
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	var refused error
	err := l.client.call(ctx, func() <-chan struct{} {
		refused = l.client.store.update(l, in)
		return nil
	})
	if err != nil {
		return err
	}
	return refused
}

// Release implements [registry.Lease].
func (l *lease) Release(ctx context.Context) error {
	return l.client.call(ctx, func() <-chan struct{} {
		l.client.store.release(l)
		return nil
	})
}

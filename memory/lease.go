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

// Keep implements [registry.Lease]. It renews the lease each third of its TTL. A client that a Hang cuts off does not
// learn that its lease is over before it heals.
func (l *lease) Keep(ctx context.Context) error {
	var over bool
	var why error
	standing := func() <-chan struct{} {
		if over, why = l.client.store.state(l); over {
			return nil
		}
		return l.ended
	}
	renew := func() <-chan struct{} {
		over, why = l.client.store.renew(l)
		return nil
	}
	for {
		due, cancel := context.WithTimeout(ctx, l.client.ttl/3)
		err := l.client.wait(due, standing)
		if due.Err() != nil && ctx.Err() == nil && !over {
			err = l.client.call(ctx, renew)
		}
		cancel()
		switch {
		case over:
			return why
		case err != nil:
			return err
		}
	}
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

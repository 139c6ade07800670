package memory

import (
	"cmp"
	"context"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// lease keeps one entry in the store. The store's mutex guards timer and the fields below it.
type lease struct {
	client      *client
	service, id string

	timer    *time.Timer // expires the entry
	deadline time.Time
	over     bool
	why      error         // why it is over; nil after Release
	ended    chan struct{} // closed when it is over
}

// end ends l. The store's mutex is locked.
func (l *lease) end(why error) {
	l.over, l.why = true, why
	l.timer.Stop()
	close(l.ended)
}

// TTL implements [registry.Lease].
func (l *lease) TTL() time.Duration { return l.client.ttl }

// Renew implements [registry.Lease].
func (l *lease) Renew(ctx context.Context) error {
	l.client.count()
	return l.unlessOver(ctx, func() (over bool, ended <-chan struct{}, why error) {
		over, why = l.client.store.renew(l)
		return over, nil, why
	})
}

// Wait implements [registry.Lease]. A client that a Hang cuts off does not learn that its lease is over before it heals.
func (l *lease) Wait(ctx context.Context) error {
	return l.unlessOver(ctx, func() (over bool, ended <-chan struct{}, why error) {
		if over, why = l.client.store.state(l); over {
			return over, nil, why
		}
		return false, l.ended, nil
	})
}

// unlessOver calls op until it returns no channel to wait for. It returns why the lease is over, or the failure of the call.
func (l *lease) unlessOver(ctx context.Context, op func() (over bool, ended <-chan struct{}, why error)) error {
	var over bool
	var why error
	err := l.client.waitAlive(ctx, func() (ended <-chan struct{}) {
		over, ended, why = op()
		return ended
	})
	if over {
		return why
	}
	return err
}

// CheckReplaced implements [registry.Lease].
func (l *lease) CheckReplaced(ctx context.Context) error {
	replaced := false
	err := l.client.call(ctx, func() <-chan struct{} {
		replaced = l.client.store.isReplaced(l)
		return nil
	})
	if replaced {
		return registry.ErrReplaced
	}
	return err
}

// Update implements [registry.Lease].
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	var refused error
	err := l.client.write(ctx, func() { refused = l.client.store.update(l, in) })
	return cmp.Or(err, refused)
}

// Release implements [registry.Lease].
func (l *lease) Release(ctx context.Context) error {
	return l.client.call(ctx, func() <-chan struct{} {
		l.client.store.release(l)
		return nil
	})
}

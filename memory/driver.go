package memory

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// client is the driver: the connection of one process to a store, which faults can cut. The mutex of a client is locked before the mutex
// of its store.
type client struct {
	store *store
	ttl   time.Duration

	mu      sync.Mutex
	calls   int
	failure error         // what every call answers, or nil
	refusal error         // what every call answers that writes content, or nil
	hanging bool          // every call blocks
	crashed bool          // the process that this client is part of has died
	drops   int           // how often DropWatches was called
	changed chan struct{} // closed when a fault sets in or ends; nil while no call waits
}

var _ registry.Driver = (*client)(nil)

// Properties implements [registry.Driver]. The store has no address, since it is in this process.
func (c *client) Properties() registry.Properties {
	name := "memory"
	if c.store.name != "" {
		name += " " + c.store.name
	}
	return registry.Properties{Name: name, Pushes: true, PutValue: c.putValue, DeleteValue: c.deleteValue}
}

// call makes one call to the store, and counts it. See wait.
func (c *client) call(ctx context.Context, op func() <-chan struct{}) error {
	c.count()
	return c.wait(ctx, op)
}

// write makes one call that writes content.
func (c *client) write(ctx context.Context, op func()) error {
	var refused error
	err := c.call(ctx, func() <-chan struct{} {
		if refused = c.refusal; refused == nil {
			op()
		}
		return nil
	})
	return cmp.Or(err, refused)
}

// wait runs op as soon as no fault prevents it, and again whenever the channel that op returned is closed, until op returns nil. It
// returns an injected failure, or the error of ctx if that ends first. No fault begins while op runs, so no call gets through after Fail
// or Hang has returned. op must not block.
func (c *client) wait(ctx context.Context, op func() <-chan struct{}) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var woken <-chan struct{}
		switch {
		case c.crashed:
			return registry.ErrClosed
		case c.failure != nil:
			return c.failure
		case !c.hanging:
			if woken = op(); woken == nil {
				return nil
			}
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-woken:
		case <-changed:
		}
		c.mu.Lock()
	}
}

// waitAlive is wait for a call that only ctx ends after a crash: a process that has died notices nothing.
func (c *client) waitAlive(ctx context.Context, op func() <-chan struct{}) error {
	err := c.wait(ctx, op)
	if errors.Is(err, registry.ErrClosed) && c.isCrashed() {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (c *client) isCrashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.crashed
}

// count counts a call to the store.
func (c *client) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
}

// Register implements [registry.Driver]. An attempt that fails has not written anything, so no lease comes beside an error, and prev has
// left no more than its own entry, which the new one replaces.
func (c *client) Register(ctx context.Context, in *registry.Instance, _ registry.Lease) (registry.Lease, error) {
	var l *lease
	err := c.write(ctx, func() { l = c.store.register(c, in) })
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Services implements [registry.Driver].
func (c *client) Services(ctx context.Context) ([]string, error) {
	var names []string
	err := c.call(ctx, func() <-chan struct{} {
		names = c.store.names()
		return nil
	})
	return names, err
}

// Watch implements [registry.Driver].
func (c *client) Watch(q registry.Query) registry.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &source{client: c, service: c.store.open(q.Service), seen: nothing, reported: nothing, drops: c.drops}
}

// Close implements [registry.Driver]. The store goes on.
func (c *client) Close() error { return nil }

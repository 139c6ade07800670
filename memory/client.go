package memory

import (
	"context"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// client is the driver: one process's connection to a store, which faults can cut. The order of locks is client, store.
type client struct {
	store *store
	ttl   time.Duration

	mu      sync.Mutex
	calls   int
	failure error         // what every call answers, where there is one
	hanging bool          // no call gets anywhere
	drops   int           // how often DropWatches was called
	changed chan struct{} // closed when a fault sets in or ends; nil while nobody waits
}

var (
	_ registry.Driver  = (*client)(nil)
	_ registry.Locator = (*client)(nil)
	_ registry.Pusher  = (*client)(nil)
)

// Pushes implements [registry.Pusher]: a set is copied from this process's own memory.
func (c *client) Pushes() bool { return true }

// call makes one call to the store, and counts it. See wait.
func (c *client) call(ctx context.Context, op func() <-chan struct{}) error {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	return c.wait(ctx, op)
}

// wait runs op as soon as no fault is in the way, and again whenever the channel closes that op returned, until op returns
// nil. It returns an injected failure, and the error of ctx where that ends first. No fault sets in while op runs, so once
// Fail or Hang has returned, nothing passes. op must not block.
func (c *client) wait(ctx context.Context, op func() <-chan struct{}) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var woken <-chan struct{}
		switch {
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

// Announce implements [registry.Driver].
func (c *client) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	var l *lease
	err := c.call(ctx, func() <-chan struct{} {
		l = c.store.announce(c, in)
		return nil
	})
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

// Follow implements [registry.Driver].
func (c *client) Follow(q registry.Query) registry.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &source{client: c, service: c.store.follow(q.Service), seen: nothing, drops: c.drops}
}

// Close implements [registry.Driver]. The store goes on: entries of this client expire.
func (c *client) Close() error { return nil }

// String returns "memory", and the name of the store where it has one.
func (c *client) String() string {
	if c.store.name == "" {
		return "memory"
	}
	return "memory " + c.store.name
}

// Locate implements [registry.Locator]: the store is in this process.
func (c *client) Locate() string { return "" }

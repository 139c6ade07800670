package memory

import (
	"errors"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// Fail makes every call of this client to the store fail with err until [Registry.Heal]: registering, reading, renewing,
// and those in progress too. It is an outage with an answer, such as a refused connection. What is announced stays for as
// long as its lease runs. err is wrapped in [registry.ErrUnavailable] unless it wraps one of the package's kinds of
// failure already: Fail(registry.ErrDenied) is a token that was revoked. Fail(nil) is Heal.
//
// It takes the place of an earlier Fail or [Registry.Hang]. Once it has returned no call gets through. Other clients of
// the store do not notice. It does not block.
func (r *Registry) Fail(err error) {
	r.client.fault(asFailure(err), false)
}

// Hang makes every call of this client to the store block until its context ends or [Registry.Heal], those in progress
// too: nothing is delivered to it, and nothing renewed, so that its entries expire for everybody else. It is an outage
// without an answer, such as a lost network or a stopped server.
//
// It takes the place of an earlier [Registry.Fail] or Hang. Once it has returned no call gets through. Other clients of the
// store do not notice. It does not block.
func (r *Registry) Hang() {
	r.client.fault(nil, true)
}

// Heal ends [Registry.Fail] and [Registry.Hang]. It does not block; what waits for its backoff to end comes back when it
// does, within [registry.Options] BackoffMax.
func (r *Registry) Heal() {
	r.client.fault(nil, false)
}

// DropWatches makes every open watch of this client fail once, as when its connection is cut: its readers see an error
// beside the last good set, and then the newest set. A watch that is reconnecting now, or held by [Registry.Hang], fails
// when it next could answer. It does not block.
func (r *Registry) DropWatches() {
	c := r.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	c.wake()
}

// Expire removes an entry behind its owner's back, as if the lease had expired or the store had forgotten it, and reports
// whether there was one. All clients of the store see it go at once. An owner that can reach the store announces it
// again, as it does after any loss. It does not block.
func (r *Registry) Expire(service, id string) bool {
	return r.client.store.lose(service, id)
}

// SetStatus changes the status of an entry from outside, as an operator or a health check would, and reports whether there
// is such an entry. All clients of the store see it. It stays until the owner announces the instance again or updates it.
// It does not block.
func (r *Registry) SetStatus(service, id string, s registry.Status) bool {
	return r.client.store.setStatus(service, id, s)
}

// Calls returns how many calls this client has made to the store so far, failed ones and those in progress included: each
// attempt to announce, update, release, renew or list, and each time a watch asked for the next set. It does not block.
func (r *Registry) Calls() int {
	r.client.mu.Lock()
	defer r.client.mu.Unlock()
	return r.client.calls
}

func (c *client) fault(failure error, hanging bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure, c.hanging = failure, hanging
	c.wake()
}

// wake lets every call in progress look at the faults again. c.mu is held.
func (c *client) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func asFailure(err error) error {
	if err == nil {
		return nil
	}
	for _, kind := range []error{
		registry.ErrInvalid, registry.ErrDenied, registry.ErrUnavailable,
		registry.ErrUnsupported, registry.ErrReplaced, registry.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
}

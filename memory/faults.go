package memory

import (
	"errors"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// Fail makes every call of this client to the store fail with err until [Registry.Heal]: registering, reading, renewing,
// and those in progress too. It is an outage with an answer, such as a refused connection. Entries stay until their leases
// expire. err is wrapped in [registry.ErrUnavailable] unless it wraps one of the package's kinds of
// failure already: Fail(registry.ErrDenied) is a token that was revoked. Fail(nil) is Heal.
//
// It takes the place of an earlier Fail or [Registry.Hang]. Once it has returned no call gets through. Other clients of
// the store do not notice. It does not block.
func (r *Registry) Fail(err error) {
	r.client.fault(asFailure(err), false)
}

// Hang makes every call of this client to the store block until its context ends or [Registry.Heal], those in progress
// too. It receives nothing and renews nothing, so its entries expire, other clients see them go, and its registrations report
// ErrUnavailable after two thirds of the TTL. It is an outage without an
// answer, such as a lost network or a stopped server.
//
// It takes the place of an earlier [Registry.Fail] or Hang. Once it has returned no call gets through. Other clients of the
// store do not notice. It does not block.
func (r *Registry) Hang() {
	r.client.fault(nil, true)
}

// Heal ends [Registry.Fail], [Registry.Hang] and [Registry.RefuseWrites]. Watches and registrations recover with their next
// attempt, within BackoffMax of [registry.Options]. Heal does not block.
func (r *Registry) Heal() {
	r.client.fault(nil, false)
}

// Crash ends this client as if its process had died: from then on it deregisters and renews nothing, its entries stay until their
// leases expire, and other clients see them go one by one. Watches and calls of this client end with [registry.ErrClosed], as
// after Close, and Registration.Err returns it. It blocks until the client's goroutines have ended. A client that was closed
// has deregistered already.
func (r *Registry) Crash() {
	c := r.client
	c.mu.Lock()
	c.crashed = true
	c.wake()
	c.mu.Unlock()
	r.Close() // its error says that nothing was deregistered
}

// RefuseWrites makes the store refuse each attempt of this client to register, update or put a value with err, as a full database does,
// until [Registry.Heal]: it still renews, reads and deregisters. err is wrapped as by [Registry.Fail]; a nil err heals. It
// takes the place of an earlier fault. It does not block.
func (r *Registry) RefuseWrites(err error) {
	c := r.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure, c.hanging, c.refusal = nil, false, asFailure(err)
	c.wake()
}

// DropWatches makes every open watch of this client fail once, as when its connection is cut: its readers see an error
// beside the last good set, and then the newest set. A watch that is reconnecting, or that hangs because of [Registry.Hang],
// fails when it next could answer. It does not block.
func (r *Registry) DropWatches() {
	c := r.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	c.wake()
}

// Expire removes an entry as if its lease had expired or the store had lost it, and reports whether there was one. A Lookup of
// any client sees that at once; a watch that loses more than half of its instances withholds the smaller set for a grace period
// (see package registry). An owner that can reach the store registers the instance again, as after any loss. Expire does not block.
func (r *Registry) Expire(service, id string) bool {
	return r.client.store.expireNow(service, id)
}

// SetStatus changes the status of an entry as an operator or a health check would, and reports whether there is such an entry. A
// Lookup of any client sees that at once; a watch withholds the set for a grace period if more than half of its instances stop
// passing, unless they are in [registry.Maintenance]. The status stays until the owner registers the instance again or updates it.
// SetStatus does not block.
func (r *Registry) SetStatus(service, id string, s registry.Status) bool {
	return r.client.store.setStatus(service, id, s)
}

// Calls returns how many calls this client has made to the store so far, failed ones and those in progress included: each
// attempt to register, update, deregister, renew or list, and each time a watch asked for the next set. It does not block.
func (r *Registry) Calls() int {
	r.client.mu.Lock()
	defer r.client.mu.Unlock()
	return r.client.calls
}

func (c *client) fault(failure error, hanging bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure, c.hanging, c.refusal = failure, hanging, nil
	c.wake()
}

// wake lets every call in progress look at the faults again. c.mu is locked.
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
		registry.ErrUnsupported, registry.ErrReplaced, registry.ErrConflict, registry.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
}

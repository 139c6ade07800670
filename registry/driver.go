package registry

import (
	"context"
	"time"
)

// Driver is what a backend implements. Each call makes a single attempt; [Registry] retries, renews, limits, shares, remembers and
// logs for all drivers.
//
//   - A driver must not retry, back off or cache.
//   - A driver must not log. It must return its failures. If no call returns a failure, it must report it: see [Properties].
//   - All methods must be safe for concurrent use.
//   - Errors must wrap [ErrInvalid], [ErrDenied], [ErrUnavailable] or [ErrUnsupported], or the context's error if ctx ended the call.
//     The errors of a [Lease] may also wrap [ErrReplaced].
//   - Errors must not contain a token, a password or the user part of a URL.
//
// There are no optional interfaces: a decorator that embeds a Driver loses none of its abilities. A backend that can only find
// returns ErrUnsupported from Register.
type Driver interface {
	// Properties describes the driver. It must do no I/O, and must return the same each time. Only the Address may change.
	Properties() Properties

	// Register makes one attempt to write in, and returns the lease that keeps it registered.
	//
	//   - It must replace an entry with the same service and ID without removing it first: watches see one entry throughout.
	//   - in is complete and valid, and its Weight is [Drained] or from 1 to 65535. It never changes. The driver may keep it, and
	//     must not change it.
	//   - The store must remove the entry by itself some time after the last Renew.
	//
	// prev is the lease that the last attempt for this registration returned, alone or beside an error, and nil for the first attempt.
	// Its Wait and its Renew do not run meanwhile. in may differ from what it wrote. If Register returns a lease, Registry does not use prev
	// again. If it returns an error alone, the next attempt has the same prev.
	//
	//   - Register may go on with what prev has in the store, such as a lease or a session of the store.
	//   - Otherwise the lease that Register returns must remove what prev may have left in the store: at once, while it waits, or in
	//     Release.
	//   - The returned lease must not keep all of its predecessors in memory, only what may still be in the store.
	//
	// Register may return a lease beside an error, in two cases:
	//
	//   - The attempt may have reached the store, for example after a timeout.
	//   - prev has left something to remove.
	//
	// Registry passes that lease as prev to the next attempt. If there is no next attempt, Registry calls the Release of that lease. It never
	// calls its Renew or Wait. If Register returns no lease beside the error, it must have left nothing in the store, or only an entry that
	// expires.
	//
	// A decorator that wraps leases must unwrap prev before it passes it on, and must return nil if there is no lease.
	//
	// A second registration of the same ID in this process begins with nil for prev. Register must treat the first registration as if it
	// belonged to another process, so that its Wait returns [ErrReplaced]. However, if a Register of the application gave up, and its
	// lease could not be released yet, the next Register of the same ID begins with that lease.
	Register(ctx context.Context, in *Instance, prev Lease) (Lease, error)

	// Watch returns a source for q. It must do no I/O.
	Watch(q Query) Source

	// WatchValue returns a source for the value of key, which is valid: see [Registry.PutValue]. It must do no I/O. The Next of the
	// source returns [ErrUnsupported] if the store has no values.
	WatchValue(key string) ValueSource

	// Services returns the names of all services that have instances, in any order.
	Services(ctx context.Context) ([]string, error)

	// Close frees the driver's resources. It is called once, after every other call has returned.
	Close() error
}

// Properties describe a [Driver].
type Properties struct {
	// Name names the store in logs, errors and cache files: the kind, the address, and the datacenter or prefix, such as
	// "consul 127.0.0.1:8500 dc1". It must not contain a secret. Two stores must not have the same name. Required.
	Name string

	// Address is the host:port at which the store is reached now. It is empty if the store is in this process. Register uses it to
	// find the local address used to reach the store, and to refuse a loopback address if the store is on another host.
	Address string

	// Pushes tells whether the store sends its sources what changed, so that they need not read the set again. The intervals of
	// [Options.Spacing] are then shorter.
	Pushes bool

	// Subscribe is nil if each failure is returned by some call. Otherwise [New] calls it once with a function that the driver calls
	// for each failure that no call returns, such as a rotated certificate that cannot be read: Registry logs it. report does not
	// block, is safe for concurrent use, and may be called until the driver's Close returns.
	Subscribe func(report func(error))

	// PutValue and DeleteValue make one attempt to write a value: see [Registry.PutValue] and [Registry.DeleteValue]. Both are nil if
	// the store has no values. Keys, data and options are valid. If a condition is not met, the
	// error must wrap [ErrConflict]; such an error says that nothing was written. They are no methods of Driver, so that a backend
	// without values need not have them.
	PutValue    func(ctx context.Context, key string, data []byte, o PutOptions) (*Value, error)
	DeleteValue func(ctx context.Context, key string, o PutOptions) error
}

// Lease is one registered entry.
//
// Registry calls Renew and Wait at the same time, and Update or Release beside them. Each method has one call at most at a time, and
// no two of Update, Release and CheckReplaced run at the same time. Neither Renew nor Wait runs during CheckReplaced.
type Lease interface {
	// TTL is how long the entry outlives the last Renew, or 0 if there is nothing to renew. It must not change. Registry calls Renew
	// every third of it, and for the first time a third of it after Register returned. If Register reuses a lease or session that
	// the store has from prev, it must therefore renew that before it returns.
	TTL() time.Duration

	// Renew makes one attempt to renew the lease. If it fails, the entry counts as lost: Registry ends Wait and registers the instance
	// again. ctx ends after a third of the TTL at the latest.
	//
	//   - Renew must not write the entry. It runs beside Update and Release, and could bring back what these have replaced or removed. Only
	//     Register writes a lost entry again: Registry calls it after CheckReplaced, and counts and logs the loss.
	//   - Renew may return nil for an attempt that failed, if the entry outlives the next one.
	//   - Renew may return nil although the entry is lost, if Wait notices that.
	Renew(ctx context.Context) error

	// Wait blocks while the instance is registered, and then returns why it is not:
	//
	//   - an error that wraps [ErrUnavailable] if the store cannot be reached or has lost the entry,
	//   - an error that wraps [ErrReplaced] if another registration has taken over the ID,
	//   - nil after Release,
	//   - the context's error if ctx ends.
	//
	// Wait must leave the entry in the store, also if ctx ends: the entry then expires unless it is registered again. If ctx ends
	// because Renew failed, [context.Cause] returns that failure. Wait is called once at most, for a lease that Register returned
	// without an error.
	Wait(ctx context.Context) error

	// CheckReplaced makes one attempt to find out whether a newer registration has the ID. It returns an error that wraps
	// [ErrReplaced] if so, and nil if not: if there is no entry, or if the entry is of this lease or of one of its predecessors.
	//
	// Registry calls it before it registers the instance again, and each [Options.BackoffMax] while the registration yields to a newer
	// one.
	CheckReplaced(ctx context.Context) error

	// Update makes one attempt to replace the content. in has the service and the ID of the registered instance. The obligations of
	// Register for in apply.
	//
	//   - Update must be idempotent.
	//   - If Update fails, the entry must have its old content or the new one, and Wait and Renew must go on: Registry calls Update
	//     again.
	//   - It must return an error that wraps [ErrReplaced] if another registration has taken over the ID.
	//   - If the store has lost the entry, Update must either write it again for this lease, as Register does, or write nothing and return
	//     an error that wraps [ErrUnavailable].
	Update(ctx context.Context, in *Instance) error

	// Release makes one attempt to remove the entry, and what predecessors of this lease have left in the store. It must not remove an
	// entry of another registration. It returns nil if nothing is left to remove; Wait then returns. Registry calls it again after an
	// error. It may be called on a lease that was lost or replaced, or that Register returned beside an error.
	Release(ctx context.Context) error
}

// Source reads the set of one query and waits for it to change. Each method has one call at most at a time.
type Source interface {
	// Next makes one attempt. The first call returns the full set at once; later calls block until the set may have changed. After an
	// error the next call starts anew.
	//
	//   - It must return a complete set or an error. It must not return an empty set that it cannot confirm.
	//   - It must return promptly if ctx ends.
	Next(ctx context.Context) (Set, error)

	// Close frees the source's resources. It must not block on the store. Next does not run, and is not called again.
	Close() error
}

// ValueSource reads the value of one key and waits for it to change. Each method has one call at most at a time.
type ValueSource interface {
	// Next makes one attempt. The first call returns the value at once; later calls block until the value may have changed. After an
	// error the next call starts anew.
	//
	//   - It must return nil only if the store has confirmed that it has no such key.
	//   - It must return promptly if ctx ends.
	//   - Registry owns the value, which must not change afterwards. The data must not be nil.
	Next(ctx context.Context) (*Value, error)

	// Close frees the source's resources. It must not block on the store. Next does not run, and is not called again.
	Close() error
}

// Set is what a [Source] has read. Beside an error it is the zero value, except that Outdated may be set.
type Set struct {
	// Instances are the instances that the query selects, in any order. The slice may have other instances too: Registry selects and
	// sorts. Registry owns the slice and the instances, which must not change afterwards.
	//
	//   - An instance whose stored weight is 0 or less must have the Weight [Drained]; an instance without a weight must have 1.
	//   - An instance that did not change since the last set should be the same pointer again, which saves comparing it.
	Instances []*Instance

	// Unreadable are all entries of the service that cannot be read now, and so are not among Instances. Registry logs each once, and
	// counts them. The slice must not change afterwards. It may be the same one as in the set before.
	Unreadable []Unreadable

	// Departed has the IDs of the instances that their owners deregistered since the last set. Registry withholds a set that shrinks
	// suddenly, but not because of instances that left on purpose. An instance that was last seen in [Maintenance] has left on purpose
	// too, so a store that keeps no history can use that status.
	Departed []string

	// Outdated is only for stores in this process, such as memory; it is nil for other stores. It reports without I/O whether a read would
	// find another set by now. Lookup and a new Watch call it, so that tests need not wait: a Lookup sees every change that was completed
	// before it. Outdated may be called at any time, also while Next runs and after Close.
	Outdated func() bool
}

// Unreadable is an entry of the store that is no instance, as far as a driver can tell.
type Unreadable struct {
	Entry string // the key or ID of the entry in the store, which no other entry of the service has
	Err   error  // why the entry cannot be read; without its content, which may be private
}

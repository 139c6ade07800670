package registry

import "context"

// Driver is what a backend implements: the small part that only it can know. Each call makes a single attempt. A driver
// neither retries nor backs off, caches nothing and logs nothing: [Registry] does that for all of them.
//
// All methods are safe for concurrent use. Errors wrap [ErrInvalid], [ErrDenied], [ErrUnavailable] or [ErrUnsupported],
// or the context's error where ctx ended the call, and hold no token, password or user part of a URL.
//
// A driver may also implement [fmt.Stringer] to name its store in logs, error texts and the names of cache files: the
// kind, the address and the datacenter or prefix, such as "consul 127.0.0.1:8500 dc1", without a secret. And it may
// implement [Locator], [Pusher] and [UnreadableCounter].
type Driver interface {
	// Announce makes one attempt to write in, and returns the lease that holds it there. It replaces an entry with the
	// same service and ID, whoever wrote it, without removing it first: watchers see one entry throughout. in is
	// complete and valid; it is the driver's to read, and never changes. An Announce that fails leaves nothing behind,
	// or only what expires.
	Announce(ctx context.Context, in *Instance) (Lease, error)
	// Follow returns a source for q. It does no I/O.
	Follow(q Query) Source
	// Services returns the names of all services that have instances, in any order.
	Services(ctx context.Context) ([]string, error)
	// Close frees what the driver holds. It is called once, after every Keep and Next has returned.
	Close() error
}

// Lease holds one announced instance in the store. Update and Release may be called while Keep runs, and not while each
// other run. A lease that is dropped without Release expires, and its entry with it. It may also implement [ReplacedChecker].
type Lease interface {
	// Keep blocks while the announcement stands, and returns why it no longer does: an error that wraps [ErrUnavailable]
	// where the store cannot be reached or has lost the entry, [ErrReplaced] where another announcement has taken the ID
	// over, nil after Release, and the context's error when ctx ends, which leaves the entry to expire. It is called at
	// most once.
	Keep(ctx context.Context) error
	// Update makes one attempt to replace the content. It is idempotent. in has the service and the ID of the announced
	// instance.
	Update(ctx context.Context, in *Instance) error
	// Release makes one attempt to remove the entry, as long as it is this lease's own. It returns nil where the entry
	// is gone or another's already; Keep then returns.
	Release(ctx context.Context) error
}

// ReplacedChecker is implemented by a [Lease] of a store in which another process can announce the same ID: it may have done so
// while this one could not reach the store, and Keep have ended for that reason.
type ReplacedChecker interface {
	// CheckReplaced makes one attempt to find out whether a newer announcement has the ID, and returns an error that wraps
	// [ErrReplaced] where one has, and nil where none has. It is called after Keep, while neither Update nor Release runs:
	// before the instance is announced again, and each [Options.BackoffMax] while it stands aside, instead of a look at the
	// sets that a Source brings.
	CheckReplaced(ctx context.Context) error
}

// Source reads the set of one query and waits for it to change. It is used by one goroutine at a time. It may also implement
// [UnreadableReporter].
type Source interface {
	// Next returns the full set at once the first time, and then blocks until it may have changed. After an error the
	// next call starts afresh. It makes one attempt.
	//
	// The set is complete, or it is an error: what cannot be confirmed is never returned as an empty set. It may be in
	// any order and hold more than the query selects: Registry sorts and selects. The instances belong to Registry from
	// then on and must not change; one that did not change since the last set may be the same pointer again, which saves
	// comparing it. The slice must not be changed either.
	Next(ctx context.Context) ([]*Instance, error)
	// Close frees what the source holds. It does not block on the store. Next is not called again.
	Close() error
}

// Locator is implemented by a driver that knows where its store is.
type Locator interface {
	// Locate returns the host:port of the store, or "" where it is in this process. Register uses it to choose the
	// address of this host that faces the store, and to tell whether a loopback address could be of use to anyone.
	Locate() string
}

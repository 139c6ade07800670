package registry

import (
	"context"
	"iter"
)

// Registrar announces instances. It is safe for concurrent use.
type Registrar interface {
	// Register announces in, and keeps it announced until Deregister.
	//
	// It blocks until the instance stands in the registry. While the registry cannot be reached it tries again, with
	// backoff, until ctx ends; ctx governs this call alone, not the announcement after it. It fails at once with
	// [ErrInvalid] for an instance that [Instance.Validate] refuses, [ErrDenied] and [ErrClosed]. When ctx ends first,
	// the error wraps both the context's and the last attempt's.
	//
	// in is copied. An empty ID is filled with service-host-port. An address with a wildcard host, such as ":8080" or
	// "0.0.0.0:8080", is replaced by the address of this host that faces the registry, which is waited for as the
	// registry is while this host has no network; a loopback address is refused where the registry is on another host, since
	// nobody there could dial it.
	//
	// Registering an ID that is registered already replaces the entry in place, and the older registration stands aside:
	// see [ErrReplaced].
	Register(ctx context.Context, in Instance) (Registration, error)
}

// Registration is one announced instance. It is safe for concurrent use.
type Registration interface {
	// Instance returns what is announced, with ID, Address and Weight filled in. The maps and slices are the caller's
	// own. It does not block.
	Instance() Instance
	// Update replaces what is announced. Service and ID stay: an empty one is filled in, another is [ErrInvalid]. It
	// blocks until the change stands in the registry or ctx ends, trying again as Register does. A change that ctx cut
	// off is not lost: it is announced as soon as the registry allows. After [ErrInvalid] and [ErrDenied] the old
	// content stands; after Deregister the answer is [ErrClosed].
	Update(ctx context.Context, in Instance) error
	// Err returns why the announcement does not stand now, and nil while it stands. It is [ErrClosed] after Deregister
	// and after the Registry was closed. It does not block.
	Err() error
	// Deregister removes the announcement and stops keeping it. It blocks until the registry has confirmed or ctx ends,
	// trying again in between. Nothing resurrects the entry afterwards; when it returns an error the entry is still no
	// longer kept, and expires. It is idempotent: nil where the entry is gone; a further call after an error tries again.
	// After the Registry was closed it returns [ErrClosed].
	Deregister(ctx context.Context) error
}

// Discovery finds instances. It is safe for concurrent use.
type Discovery interface {
	// Lookup returns the instances that q selects, sorted by ID. None is an empty slice, not an error.
	//
	// It answers from a live watch of the same query where there is one, without asking the registry, and otherwise
	// makes one attempt, which ctx governs. With an error comes the last good set where one is known, nil otherwise:
	// the set may then be out of date. The slice is the caller's own, the instances are shared. Errors: [ErrInvalid],
	// [ErrDenied], [ErrUnavailable], [ErrClosed], and the context's.
	Lookup(ctx context.Context, q Query) ([]*Instance, error)
	// Watch yields the full set that q selects: once promptly, even when it is empty, then after each change.
	//
	// A pair with an error reports that the set may be out of date and why; the set is then the last good one (nil while
	// none is known), and the watch goes on. A pair without an error follows when the registry answers again, even where
	// the set is the same. It ends when ctx is done or the loop breaks, and after [ErrClosed] or [ErrInvalid], which
	// nothing can follow.
	//
	// A reader that is slow skips to the newest set. Each slice is the reader's own; instances are shared, and one that
	// did not change keeps its pointer from one set to the next. A loop blocks between the pairs; it may be ranged over
	// again, as a new watch, and by several goroutines.
	Watch(ctx context.Context, q Query) iter.Seq2[[]*Instance, error]
}

package registry

import (
	"context"
	"iter"
)

// Registrar registers instances. It is safe for concurrent use.
type Registrar interface {
	// Register registers in, and keeps it registered until Deregister or the Close of its [Registry].
	//
	// Register blocks until the registry has stored the instance. While the registry cannot be reached it retries, with backoff, until
	// ctx ends; ctx governs this call only, not the registration after it. Register logs the first failure at once, and a reminder at
	// least each minute. It does not retry these errors, and returns them at once: [ErrInvalid], from [Instance.Validate] or from the
	// registry, [ErrDenied], [ErrUnsupported] and [ErrClosed]. If ctx ends first, the error wraps the context's error and the error of
	// the last attempt.
	//
	// in is copied. An empty ID is filled with service-host-port.
	//
	// A wildcard host such as ":8080" or "0.0.0.0:8080", in Address and in Endpoints, is replaced by the first of these that exists.
	// Only the servers of packages serve and grpcx know the first and the third:
	//
	//  1. (serve, grpcx) the IP address of the listener, if it listens on one address only;
	//  2. the environment variable ROLLCALL_HOST, or else POD_IP: an IP address or a host name;
	//  3. (serve, grpcx) the address of the network interface in the field Interface;
	//  4. the local address used to reach the registry; with a registry on this host, the address of the default route.
	//
	// If the host has no network yet: with a registry on this host, Register takes 127.0.0.1, or ::1 for the wildcard "[::]"; otherwise
	// it retries. A loopback address is refused if the registry is on another host, since no other host could dial it.
	//
	// Registering an ID that is registered already replaces the entry in place. The older registration stops writing and reports
	// [ErrReplaced] from Err until the newer entry is gone.
	Register(ctx context.Context, in Instance) (Registration, error)
}

// Registration is one registered instance. It is safe for concurrent use.
//
// Its wanted content is what the Registry tries to have in the store: the content of the newest Update that was not refused, or else of
// Register.
type Registration interface {
	// Instance returns the wanted content, with ID, Address and Weight filled in. The maps and slices are the caller's own. It does not
	// block.
	Instance() Instance
	// Update replaces the content. Service and ID stay the same: empty ones are filled in, different ones are [ErrInvalid].
	//
	// From the moment of the call, in is the wanted content, and Instance returns it. Update blocks until in is registered or ctx ends,
	// and retries as Register does. If ctx ends first, in stays the wanted content: it is registered as soon as the registry allows.
	// Until then the old content stays registered and is renewed, and Err says so. If the registry then refuses the new content, the
	// registration goes back to the old content, and the log says so.
	//
	// The newest of several Updates wins. An older one returns nil when the newer content is registered.
	//
	// If the registry refuses in, Update returns [ErrInvalid], [ErrDenied] or [ErrUnsupported], and the registration goes back to the
	// old content. If a newer registration has the ID, it returns [ErrReplaced]; after Deregister, [ErrClosed].
	Update(ctx context.Context, in Instance) error
	// Err returns nil while the registry has what Instance returns, and otherwise the reason:
	//
	//   - an [*Error] whose Op is "renew" if the entry is lost; it is registered again as soon as the registry allows,
	//   - an [*Error] whose Op is "update" if an Update gave up: its content is not registered yet, the old content still is,
	//   - an [*Error] whose Op is "update" if the registry has refused an Update, but may have carried out an earlier attempt of it: the
	//     old content is registered again as soon as the registry allows,
	//   - [ErrClosed] after Deregister and after the Registry was closed.
	//
	// It does not block.
	Err() error
	// Deregister removes the entry and stops keeping it. It blocks until the registry has confirmed or ctx ends, and retries in
	// between. Nothing brings the entry back afterwards. If Deregister returns an error, the entry is not renewed either and
	// expires; a further call tries again, and so does Close.
	//
	// It is idempotent: it returns nil if the entry is gone. After the Registry was closed it returns [ErrClosed], unless the
	// entry was removed before or by Close.
	Deregister(ctx context.Context) error
}

// Discovery finds instances. It is safe for concurrent use.
type Discovery interface {
	// Lookup returns the instances that q selects, sorted by ID. If there are none, it returns an empty slice, not an error.
	//
	// Lookup shares the watch of the same query with all other readers, and starts one if there is none. The watch stays open for
	// [Options.Linger], so repeated lookups cost no request, and a set is as new as a watch would show it. After the first Lookup, if
	// there is no other reader, the watch waits for [LookupPause] before it reads again. So a second Lookup within that time may get
	// the set of the first. Lookup sees what this Registry has registered, updated or deregistered before it.
	//
	// ctx governs how long Lookup waits for a first answer or, after a write by this Registry, for an answer that shows it. If ctx has
	// ended already, Lookup returns what is known and asks nothing. If the registry fails, Lookup returns the error at once, with the
	// last good set if one is known and nil otherwise; beside a set, the error wraps a [StaleError].
	//
	// The slice is the caller's own, the instances are shared. Errors: [ErrInvalid], [ErrDenied], [ErrUnavailable], [ErrClosed], and
	// the context's.
	Lookup(ctx context.Context, q Query) ([]*Instance, error)
	// Watch yields the full set that q selects: once promptly, even if it is empty, and then after each change.
	//
	// A pair with an error reports that the set may be out of date and why. The set is then the last good one, and the error wraps a
	// [StaleError]; it is nil if no set is known yet. The watch goes on. One outage is one such pair: another follows only for
	// another kind of error or another set. A pair without an error follows when the registry answers again, even if the set is the
	// same. A set that shrinks suddenly is withheld for a grace period: see the package's documentation.
	//
	// Watch ends when ctx is done or the loop breaks, and after a pair with [ErrClosed]. If [Query.Validate] refuses q, it ends after
	// one pair with [ErrInvalid]. No answer of the registry ends it: a refused query is tried again with the usual pauses, or every
	// [RefusedPause] if the registry refuses it with [ErrInvalid] and no set is known yet.
	//
	// A slow reader skips to the newest set. Each slice is the reader's own; the instances are shared, and an instance that did
	// not change keeps its pointer from one set to the next. The loop blocks between the pairs. The sequence may be ranged over
	// several times, also by several goroutines; each time is a watch of its own.
	Watch(ctx context.Context, q Query) iter.Seq2[[]*Instance, error]
}

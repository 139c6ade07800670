package registry

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/internal/advertise"
)

// Registry is a [Registrar] and a [Discovery] over one [Driver]. The driver makes single attempts; Registry retries, renews,
// shares watches and remembers sets. It is safe for concurrent use.
type Registry struct {
	driver Driver
	name   string // Properties.Name of the driver
	opts   Options
	route  advertise.Router // finds the routes of this host
	limit  *rateLimit       // the limit of all reads; nil if there is none

	// ctx ends with Close. It is a field because the goroutines of feeds and keepers outlive every call.
	ctx    context.Context
	cancel context.CancelFunc

	// writes ends when Close begins to deregister, and ctx after that. It governs Register, Update and the keepers.
	writes     context.Context
	stopWrites context.CancelFunc

	mu            sync.Mutex
	closed        bool                  // Close was called
	leaving       context.Context       // ends CloseTimeout after Close was called; nil before
	feeds         map[string]*feed      // by Query.key
	lingering     *list.List            // of *shared: all without a reader, in the order in which they lost their last reader
	remembered    recent[*lastGood]     // the last good sets of feeds that have ended
	valueFeeds    map[string]*valueFeed // by key
	oldValues     recent[*lastValue]    // the last good values of valueFeeds that have ended
	registrations map[*registration]bool
	abandoned     map[entryID]*abandonedLease // the leases of calls of Register that gave up
	registering   sync.WaitGroup              // calls of Register; grows under mu, and not once closed
	work          sync.WaitGroup              // every goroutine, and every call that uses the driver; grows under mu, and not once ctx has ended

	failures   failureLogs
	outages    outages
	unreadable unreadableEntries
	reported   reportedFailure
	observers  observers

	refusedLog, acceptedLog   quota // for the lines that say that a query is refused, and that it is answered again
	withheldLog, publishedLog quota // for the lines that say that a suspect set is withheld, and that it is published

	reads  sync.WaitGroup     // as work, for goroutines and calls that only read: Close waits for them for a while only
	saves  context.Context    // ends when Close stops waiting for reads: a set that is half saved is dropped
	giveUp context.CancelFunc // ends saves

	down     chan struct{} // closed when Close has done its work
	closeErr error         // set before down is closed
}

var (
	_ Registrar = (*Registry)(nil)
	_ Discovery = (*Registry)(nil)
)

// New returns a Registry over d. The Registry owns d: Close closes it. New does no I/O and starts no goroutine. If
// [Options.Validate] refuses o, New returns that error, which wraps [ErrInvalid], and d remains the caller's.
func New(d Driver, o Options) (*Registry, error) {
	if err := o.Validate(); err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	ctx, cancel := context.WithCancel(context.Background())
	writes, stopWrites := context.WithCancel(ctx)
	saves, giveUp := context.WithCancel(context.Background())
	p := d.Properties()
	r := &Registry{
		name: cmp.Or(p.Name, fmt.Sprintf("%T", d)), opts: o.withDefaults(), route: advertise.Route, limit: newRateLimit(o.Rate),
		ctx: ctx, cancel: cancel, writes: writes, stopWrites: stopWrites, saves: saves, giveUp: giveUp,
		feeds: map[string]*feed{}, lingering: list.New(), remembered: newRecent[*lastGood](MaxRemembered),
		valueFeeds: map[string]*valueFeed{}, oldValues: newRecent[*lastValue](maxRememberedValues),
		registrations: map[*registration]bool{}, abandoned: map[entryID]*abandonedLease{}, down: make(chan struct{}),
	}
	r.driver = attempts{d, r}
	if p.Subscribe != nil {
		p.Subscribe(r.logReported)
	}
	return r, nil
}

// String returns the name of the backend and its store, without a secret: see [Properties.Name].
func (r *Registry) String() string { return r.name }

// beginWrite starts a call that writes: Close waits for its end, and its context ends when Close begins to deregister.
func (r *Registry) beginWrite(ctx context.Context) (context.Context, func(), error) {
	return r.beginUntil(ctx, r.writes, r.unusable)
}

// beginRelease is beginWrite for a call that may also run beside a Close that deregisters.
func (r *Registry) beginRelease(ctx context.Context) (context.Context, func(), error) {
	return r.beginUntil(ctx, r.ctx, func() error {
		if r.ctx.Err() != nil {
			return ErrClosed
		}
		return nil
	})
}

// beginUntil starts a call. Its context ends when ctx or until ends. If until ends first, the cause is ErrClosed. usable is called with r.mu
// locked.
func (r *Registry) beginUntil(ctx, until context.Context, usable func() error) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := usable(); err != nil {
		return nil, nil, err
	}
	r.work.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(until, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil); r.work.Done() }, nil
}

// beginRead is beginWrite for a call that only reads: Close waits for its end for a while only.
func (r *Registry) beginRead(ctx context.Context) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unusable(); err != nil {
		return nil, nil, err
	}
	r.reads.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() { stop(); cancel(); r.reads.Done() }, nil
}

// start runs f in a goroutine that Close joins. It reports false if the Registry is closed.
func (r *Registry) start(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Go(f)
	return true
}

// startRead is start for a goroutine that only reads. It does nothing if the Registry is closed.
func (r *Registry) startRead(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.reads.Go(f)
	}
}

// unusable returns the error of every call if the Registry is closed, and nil otherwise. r.mu is locked.
func (r *Registry) unusable() error {
	if r.closed {
		return ErrClosed
	}
	return nil
}

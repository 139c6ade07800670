package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Registry is a [Registrar] and a [Discovery] over one [Driver]: it retries, renews, shares and remembers what the driver
// does and reads in single attempts. It is safe for concurrent use.
type Registry struct {
	driver  Driver
	opts    Options
	route   router // of this host
	invalid error  // of the options; every call answers it

	// ctx ends with Close. It is held here since the goroutines of feeds and keepers outlive every call.
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	feeds  map[string]*feed // by Query.key
	work   sync.WaitGroup   // every goroutine, and every call that uses the driver; grows under mu, and not once closed

	down     chan struct{} // closed when Close has done its work
	closeErr error         // set before down is closed
}

var (
	_ Registrar = (*Registry)(nil)
	_ Discovery = (*Registry)(nil)
)

// New returns a Registry over d, which it owns from then on: Close closes it. It does no I/O and starts no goroutine.
// Options that [Options.Validate] refuses make every call answer that error: a backend's own New should ask first.
func New(d Driver, o Options) *Registry {
	ctx, cancel := context.WithCancel(context.Background())
	return &Registry{
		driver: d, opts: o.withDefaults(), invalid: o.Validate(), route: route,
		ctx: ctx, cancel: cancel,
		feeds: map[string]*feed{}, down: make(chan struct{}),
	}
}

// String names the backend and its store, without a secret.
func (r *Registry) String() string {
	if s, ok := r.driver.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", r.driver)
}

// Services returns the names of the services that have instances, sorted. It makes one attempt, which ctx governs.
// Errors: [ErrDenied], [ErrUnavailable], [ErrUnsupported], [ErrClosed], and the context's.
func (r *Registry) Services(ctx context.Context) ([]string, error) {
	opCtx, end, err := r.begin(ctx)
	if err != nil {
		return nil, &Error{Op: "services", Err: err}
	}
	defer end()
	names, err := r.driver.Services(opCtx)
	if err != nil {
		return nil, &Error{Op: "services", Err: r.classify(ctx, err)}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Close ends every watch with [ErrClosed] and stops keeping every announcement; it blocks until every goroutine has
// ended, and closes the driver, whose error it returns. Calls in progress end with ErrClosed, as do all later ones.
//
// It deregisters nothing: what was announced stays until its lease expires, as if the process had died. A program that
// leaves on purpose calls Deregister first. Closing again waits for the first Close and returns the same.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.down
		return r.closeErr
	}
	r.closed = true
	r.cancel()
	for _, f := range r.feeds {
		f.stopTimer()
	}
	r.mu.Unlock()

	r.work.Wait()
	r.closeErr = r.driver.Close()
	close(r.down)
	return r.closeErr
}

// begin starts a call that uses the driver: Close waits for its end, and its context ends with Close.
func (r *Registry) begin(ctx context.Context) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unusable(); err != nil {
		return nil, nil, err
	}
	r.work.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() { stop(); cancel(); r.work.Done() }, nil
}

// start runs f in a goroutine that Close joins. It reports false where the Registry is closed.
func (r *Registry) start(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Go(f)
	return true
}

// unusable returns why no call can be served. r.mu is held.
func (r *Registry) unusable() error {
	if r.invalid != nil {
		return r.invalid
	}
	if r.closed {
		return ErrClosed
	}
	return nil
}

// classify makes sure that err wraps one of the kinds of failure, or the error of ctx where that ended the call.
func (r *Registry) classify(ctx context.Context, err error) error {
	switch {
	case r.ctx.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		// The driver's words say what it was waiting for, but not always that ctx was the reason.
		if errors.Is(err, ctx.Err()) {
			return err
		}
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	for _, kind := range []error{ErrInvalid, ErrDenied, ErrUnavailable, ErrUnsupported, ErrReplaced, ErrClosed} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// retry makes an attempt until it succeeds, fails for good, or ctx ends; the error then wraps the context's and that of
// the last attempt. attempt is given opCtx, which ends with ctx and with Close. A failure is logged unless it is that of
// the attempt before, since the caller may wait for long and say nothing.
func (r *Registry) retry(ctx, opCtx context.Context, op, service, id string, attempt func(context.Context) error) error {
	b := r.newBackoff()
	var last error
	for {
		err := attempt(opCtx)
		if err == nil {
			return nil
		}
		err = r.classify(ctx, err)
		if permanent(err) || errors.Is(err, ErrReplaced) {
			return err
		}
		if ctx.Err() == nil {
			if errText(last) != errText(err) {
				r.opts.Logger.Warn("rollcall: it failed, and is tried again", "op", op, "registry", r.String(), "service", service, "id", id, "error", err)
			}
			last = err
			if b.wait(opCtx) {
				continue
			}
			err = r.classify(ctx, opCtx.Err())
		}
		if last == nil || errors.Is(err, ErrClosed) {
			return err
		}
		return fmt.Errorf("%w; the last attempt before that: %w", ctx.Err(), last)
	}
}

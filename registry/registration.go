package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// releaseTimeout bounds taking back an entry that nobody waits for.
const releaseTimeout = 5 * time.Second

// registration is one announcement and its keeper. What should stand is want; the keeper and the callers of Update and
// Deregister bring the store there, one writer at a time.
type registration struct {
	r           *Registry
	service, id string // of every want
	// ctx ends with Deregister and with Close. It governs the keeper's waiting, but no write in flight: to cut one off
	// would leave open whether it took place. It is held here since the keeper outlives Register.
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{} // closed when the keeper has ended
	turn chan struct{} // holds a token; whoever has taken it may write to the store

	mu       sync.Mutex
	want     *Instance
	written  *Instance          // what the last successful write wrote
	lease    Lease              // the newest
	err      error              // why want does not stand; nil while it does
	stood    chan struct{}      // closed, and replaced, when an announcement has succeeded, or was refused for what an Update wants
	refused  refusal            // the newest
	renew    context.CancelFunc // makes the keeper announce afresh
	gone     bool               // Deregister was called
	released bool               // and the store has confirmed it
}

// refusal is why the store takes no announcement of an instance, though it took what was written before.
type refusal struct {
	want *Instance
	err  error
}

// Register implements [Registrar].
func (r *Registry) Register(ctx context.Context, in Instance) (Registration, error) {
	g, err := r.register(ctx, in)
	if err != nil {
		return nil, &Error{Op: "register", Service: in.Service, ID: in.ID, Err: err}
	}
	return g, nil
}

func (r *Registry) register(ctx context.Context, in Instance) (*registration, error) {
	opCtx, end, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	want, err := r.prepare(ctx, opCtx, "register", in)
	if err != nil {
		return nil, err
	}
	var lease Lease
	err = r.retry(ctx, opCtx, "register", want.Service, want.ID, func(ctx context.Context) (err error) {
		lease, err = r.driver.Announce(ctx, want)
		return err
	})
	if err != nil {
		return nil, err
	}
	g := &registration{
		r: r, service: want.Service, id: want.ID, done: make(chan struct{}), turn: make(chan struct{}, 1),
		want: want, written: want, lease: lease, stood: make(chan struct{}),
	}
	g.ctx, g.stop = context.WithCancel(r.ctx)
	g.turn <- struct{}{}
	if !r.start(g.keep) {
		// Closed in between: the caller gets no handle, so nobody else can take the entry back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		lease.Release(ctx)
		return nil, ErrClosed
	}
	return g, nil
}

// Instance implements [Registration].
func (g *registration) Instance() Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.want.Clone()
}

// Err implements [Registration].
func (g *registration) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.err
	if g.gone || g.r.ctx.Err() != nil {
		err = ErrClosed
	}
	if err == nil {
		return nil
	}
	return g.error("keep", err)
}

func (g *registration) error(op string, err error) error {
	return &Error{Op: op, Service: g.service, ID: g.id, Err: err}
}

// Update implements [Registration].
func (g *registration) Update(ctx context.Context, in Instance) error {
	if err := g.update(ctx, in); err != nil {
		return g.error("update", err)
	}
	return nil
}

func (g *registration) update(ctx context.Context, in Instance) error {
	opCtx, end, err := g.r.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	want, err := g.prepareUpdate(ctx, opCtx, in)
	if err != nil {
		return err
	}
	before, err := g.aim(ctx, want)
	if err != nil {
		return err
	}
	err = g.r.retry(ctx, opCtx, "update", g.service, g.id, func(ctx context.Context) error { return g.write(ctx, want) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrDenied), errors.Is(err, ErrUnsupported):
		g.giveUp(want, before)
	default:
		g.renewFor(want, err)
	}
	return err
}

func (g *registration) prepareUpdate(ctx, opCtx context.Context, in Instance) (*Instance, error) {
	in.Service, in.ID = cmp.Or(in.Service, g.service), cmp.Or(in.ID, g.id)
	if in.Service != g.service {
		return nil, invalid("Service", in.Service, fmt.Sprintf("is not that of the registration, %q", g.service))
	}
	if in.ID != g.id {
		return nil, invalid("ID", in.ID, fmt.Sprintf("is not that of the registration, %q", g.id))
	}
	return g.r.prepare(ctx, opCtx, "update", in)
}

// aim makes want what should stand, and returns what should have until now.
func (g *registration) aim(ctx context.Context, want *Instance) (*Instance, error) {
	if err := g.take(ctx); err != nil {
		return nil, err
	}
	defer g.give()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return nil, ErrClosed
	}
	before := g.want
	g.want = want
	return before, nil
}

// write makes one attempt to bring want into the store. While the announcement is lost it leaves that to the keeper,
// and waits for it.
func (g *registration) write(ctx context.Context, want *Instance) error {
	for {
		if err := g.take(ctx); err != nil {
			return err
		}
		g.mu.Lock()
		lease, lost, stood := g.lease, g.err, g.stood
		done := g.written == want || g.want != want // the keeper was quicker; or a later Update wants something else
		gone, refused := g.gone, g.refused
		g.mu.Unlock()
		switch {
		case gone:
			g.give()
			return ErrClosed
		case refused.want == want:
			g.give()
			return refused.err
		case done:
			g.give()
			return nil
		case lost == nil:
			err := lease.Update(ctx, want)
			if err == nil {
				g.mu.Lock()
				g.written = want
				g.mu.Unlock()
			}
			g.give()
			return err
		case errors.Is(lost, ErrReplaced):
			g.give()
			return lost
		}
		g.give()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the announcement is lost: %w", ctx.Err(), lost)
		case <-g.ctx.Done():
		case <-stood:
		}
	}
}

// giveUp goes back to what should have stood before an Update that the store refuses.
func (g *registration) giveUp(want, before *Instance) {
	g.mu.Lock()
	if g.want == want {
		g.want = before
	}
	g.mu.Unlock()
	// Where that is of an Update which this one overtook, nobody else writes it any more.
	g.renewFor(before, fmt.Errorf("%w: what an update wants has yet to be written", ErrUnavailable))
}

// refuse goes back to what stood before the announcement was lost, where err says that the store takes no such content as an Update
// wants since. That Update returns err. It is not so where the store denies it: then it would take nothing else.
func (g *registration) refuse(want *Instance, err error) {
	if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if want == g.written || g.want != want {
		return
	}
	g.want, g.refused = g.written, refusal{want, err}
	g.wake()
}

// wake has the Updates that wait for the keeper look again. g.mu is held.
func (g *registration) wake() {
	close(g.stood)
	g.stood = make(chan struct{})
}

// renewFor makes the keeper announce want, which an Update could not write in time.
func (g *registration) renewFor(want *Instance, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.want != want || g.written == want || g.gone || g.err != nil {
		return
	}
	g.err = err
	if g.renew != nil { // otherwise the keeper is about to hold, and looks at err first
		g.renew()
	}
}

// Deregister implements [Registration].
func (g *registration) Deregister(ctx context.Context) error {
	if err := g.deregister(ctx); err != nil {
		return g.error("deregister", err)
	}
	return nil
}

func (g *registration) deregister(ctx context.Context) error {
	g.mu.Lock()
	g.gone = true
	released := g.released
	g.mu.Unlock()
	g.stop()
	if released {
		<-g.done
		return nil
	}
	opCtx, end, err := g.r.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	// A write that is in flight ends first: what it wrote is released after it, so nothing can come back.
	if err := g.take(opCtx); err != nil {
		return g.r.classify(ctx, err)
	}
	err = g.r.retry(ctx, opCtx, "deregister", g.service, g.id, g.release)
	g.give()
	if err != nil {
		return err
	}
	select {
	case <-g.done:
		return nil
	case <-opCtx.Done():
		return g.r.classify(ctx, opCtx.Err())
	}
}

// release takes the newest lease back. The caller has the turn.
func (g *registration) release(ctx context.Context) error {
	g.mu.Lock()
	lease, released := g.lease, g.released
	g.mu.Unlock()
	if released {
		return nil
	}
	if err := lease.Release(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	g.released = true
	g.mu.Unlock()
	return nil
}

func (g *registration) take(ctx context.Context) error {
	select {
	case <-g.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *registration) give() { g.turn <- struct{}{} }

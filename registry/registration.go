package registry

import (
	"context"
	"sync"
	"time"
)

// registration is one registered instance. A goroutine, the keeper, renews it and registers it again after a loss. The keeper and the
// callers of Update and Deregister write to the store, one at a time: see [wish].
type registration struct {
	r           *Registry
	service, id string // the same in all content
	// ctx ends when Deregister is called, and when Close begins to deregister. It ends the keeper's waits, but no write in flight:
	// after a write that was cut off, it would be unknown whether the store has it. It is a field because the keeper outlives Register.
	ctx    context.Context
	stop   context.CancelFunc
	done   chan struct{} // closed when the keeper and the goroutine of catchUp have ended
	writer chan struct{} // the writer lock: has a token while nothing writes to the store

	mu           sync.Mutex
	content      *Instance     // the content of the last successful write
	wishes       []*wish       // the contents of Updates that are neither written nor refused, the oldest first
	lease        Lease         // the lease that the driver's Register returned last, alone or beside an error
	err          error         // why the entry is lost; nil while it is registered
	since        time.Time     // when the entry was last registered, lost or replaced
	losses       uint64        // how often the entry was lost or replaced
	behind       error         // why an Update that gave up is not written yet; ignored if wishes is empty
	replaced     error         // the ErrReplaced that an Update got, until the keeper has handled it
	restored     chan struct{} // closed, and replaced, when the instance is registered again or a wish was refused
	endWait      func()        // ends Wait and the renewals; nil while they do not run
	running      int           // number of running goroutines: the keeper and catchUp
	catching     bool          // catchUp runs
	deregistered bool          // Deregister was called
	releasers    int           // calls of Deregister that wait for the writer lock
	released     bool          // the store has confirmed the release
}

// Register implements [Registrar].
func (r *Registry) Register(ctx context.Context, in Instance) (Registration, error) {
	g, err := r.register(ctx, in)
	if err != nil {
		return nil, &Error{Op: "register", Service: in.Service, ID: in.ID, Err: err}
	}
	r.wrote(g.service)
	return g, nil
}

func (r *Registry) register(ctx context.Context, in Instance) (*registration, error) {
	opCtx, end, err := r.beginRegister(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	want, err := r.prepare(ctx, opCtx, in)
	if err != nil {
		return nil, err
	}
	entry := entryID{want.Service, want.ID}
	lease := r.resumeAbandoned(entry)
	start := time.Now()
	err = r.retry(ctx, opCtx, "register", want.Service, want.ID, func(ctx context.Context) error {
		newer, err := r.driver.Register(ctx, want, lease)
		if newer != nil {
			lease = newer
		}
		return err
	})
	if err != nil {
		r.abandon(entry, lease)
		return nil, err
	}
	g := &registration{
		r: r, service: want.Service, id: want.ID, done: make(chan struct{}), writer: make(chan struct{}, 1),
		content: want, lease: lease, since: time.Now(), restored: make(chan struct{}), running: 1,
	}
	g.ctx, g.stop = context.WithCancel(r.writes)
	g.writer <- struct{}{}
	if !r.adopt(g) {
		r.abandon(entry, lease) // closed in between, and the caller gets no handle
		return nil, ErrClosed
	}
	r.emit(pendingEvent{Event: Event{Kind: Registered, Service: g.service, ID: g.id, Took: time.Since(start)}})
	return g, nil
}

// beginRegister is beginWrite for Register: Close waits for such a call before it ends the watches.
func (r *Registry) beginRegister(ctx context.Context) (context.Context, func(), error) {
	opCtx, end, err := r.beginUntil(ctx, r.writes, func() error {
		if err := r.unusable(); err != nil {
			return err
		}
		r.registering.Add(1)
		return nil
	})
	return opCtx, func() { end(); r.registering.Done() }, err
}

// adopt starts g's keeper. It reports false if the Registry is closed.
func (r *Registry) adopt(g *registration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.registrations[g] = true
	r.work.Go(g.keepRegistered)
	return true
}

// Instance implements [Registration].
func (g *registration) Instance() Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.newest().content.Clone()
}

// Err implements [Registration].
func (g *registration) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.deregistered || g.r.writes.Err() != nil:
		return g.error("renew", ErrClosed)
	case g.err != nil:
		return g.error("renew", g.err)
	case len(g.wishes) > 0 && g.behind != nil:
		return g.error("update", g.whyBehind())
	}
	return nil
}

func (g *registration) error(op string, err error) error {
	return &Error{Op: op, Service: g.service, ID: g.id, Err: err}
}

// lock takes the writer lock.
func (g *registration) lock(ctx context.Context) error {
	select {
	case <-g.writer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *registration) unlock() { g.writer <- struct{}{} }

// goroutineEnded notes the end of one of the registration's goroutines.
func (g *registration) goroutineEnded() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 {
		close(g.done)
	}
}

package grpcx

import (
	"context"
	"errors"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	// deniedPause is how long to wait before a registry that denied the announcement is asked again: a token may be about
	// to reach it, and a fleet must not go down with its token.
	deniedPause = 5 * time.Second
	// lastWait is how long a registrar has to return once its context has ended. One that heeds it needs none of that.
	lastWait = 500 * time.Millisecond
)

// announcement is a server's, from the first attempt to its end. One goroutine makes it and takes it back, so that an
// attempt that succeeds late, when nobody waits for it any more, is taken back too.
type announcement struct {
	l      *life
	cancel context.CancelFunc   // ends the attempts
	failed chan error           // why it can never stand
	leave  chan context.Context // what governs taking it back, sent once
	done   chan struct{}        // closed when it is made no more, and taken back
}

// announce registers in the background: a registry that is down delays the announcement, not the serving.
func (l *life) announce(ctx context.Context) *announcement {
	ctx, cancel := context.WithCancel(ctx)
	a := &announcement{
		l: l, cancel: cancel,
		failed: make(chan error, 1), leave: make(chan context.Context, 1), done: make(chan struct{}),
	}
	go func() {
		defer close(a.done)
		if r := a.register(ctx); r != nil {
			a.deregister(<-a.leave, r)
		}
	}()
	return a
}

// register returns nil where there is nothing to take back.
func (a *announcement) register(ctx context.Context) registry.Registration {
	for {
		r, err := a.l.Registrar.Register(ctx, a.l.Instance)
		switch {
		case err == nil:
			in := r.Instance()
			a.l.Logger.Info("rollcall: registered", "id", in.ID, "announced", in.Address)
			return r
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, registry.ErrDenied):
			a.failed <- err
			return nil
		}
		a.l.Logger.Error("rollcall: the registry denies the announcement; the server serves, but is not found", "error", err)
		t := time.NewTimer(deniedPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

func (a *announcement) deregister(ctx context.Context, r registry.Registration) {
	if ctx.Err() != nil { // the attempt outlived the wait for it; the entry must not outlive the server
		late, cancel := context.WithTimeout(context.Background(), a.l.DeregisterTimeout)
		defer cancel()
		ctx = late
	}
	if err := r.Deregister(ctx); err != nil {
		a.l.Logger.Error("rollcall: not deregistered; the entry stays until it expires", "error", err)
		return
	}
	a.l.Logger.Info("rollcall: deregistered")
}

// withdraw takes the announcement back, whatever has become of it. It reports false where a signal has cut the server
// meanwhile.
func (l *life) withdraw(a *announcement) bool {
	ctx, cancel := context.WithTimeout(context.Background(), l.DeregisterTimeout)
	defer cancel()
	a.leave <- ctx
	a.cancel() // an attempt in flight ends first: what it announced is then known
	graceful := true
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
	case sig := <-l.signals:
		graceful = false
		l.cut(sig.String())
		cancel()
	}
	t := time.NewTimer(lastWait)
	defer t.Stop()
	select {
	case <-a.done:
	case <-t.C:
		l.Logger.Error("rollcall: the registrar does not return; the entry may stay until it expires")
	}
	return graceful
}

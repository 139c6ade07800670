package grpcx

import (
	"context"
	"errors"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// deniedPause is how long to wait before a registry that denied the announcement is asked again: a token may be about to
// reach it, and a fleet must not go down with its token.
const deniedPause = 5 * time.Second

// announcement is a server's, from the first attempt to its end.
type announcement struct {
	l            *life
	cancel       context.CancelFunc
	done         chan struct{}
	failed       chan error            // why it can never stand
	registration registry.Registration // nil where there is none; set before done is closed
}

// announce registers in the background: a registry that is down delays the announcement, not the serving.
func (l *life) announce(ctx context.Context) *announcement {
	ctx, cancel := context.WithCancel(ctx)
	a := &announcement{l: l, cancel: cancel, done: make(chan struct{}), failed: make(chan error, 1)}
	go a.run(ctx)
	return a
}

func (a *announcement) run(ctx context.Context) {
	defer close(a.done)
	for {
		r, err := a.l.Registrar.Register(ctx, a.l.Instance)
		switch {
		case err == nil:
			a.registration = r
			in := r.Instance()
			a.l.Logger.Info("rollcall: registered", "id", in.ID, "announced", in.Address)
			return
		case ctx.Err() != nil:
			return
		case !errors.Is(err, registry.ErrDenied):
			a.failed <- err
			return
		}
		a.l.Logger.Error("rollcall: the registry denies the announcement; the server serves, but is not found", "error", err)
		t := time.NewTimer(deniedPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// end takes the announcement back, whatever has become of it.
func (a *announcement) end() {
	ctx, cancel := context.WithTimeout(context.Background(), a.l.DeregisterTimeout)
	defer cancel()
	// An attempt in flight ends first: what it announced is then known, and can be taken back.
	a.cancel()
	select {
	case <-a.done:
	case <-ctx.Done():
		a.l.Logger.Error("rollcall: the registrar does not end an attempt to register; the entry may stay until it expires")
		return
	}
	if a.registration == nil {
		return
	}
	if err := a.registration.Deregister(ctx); err != nil {
		a.l.Logger.Error("rollcall: not deregistered; the entry stays until it expires", "error", err)
		return
	}
	a.l.Logger.Info("rollcall: deregistered")
}

package grpcx

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
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

// announcements are those of one server, from the first attempts to their end. One goroutine makes each and takes it back, so
// that an attempt that succeeds late, when nobody waits for it any more, is taken back too.
type announcements struct {
	cancel  context.CancelFunc // ends the attempts
	failed  chan error         // why one can never stand
	leave   chan struct{}      // closed when all are to be taken back
	leaving context.Context    // what governs that; set before leave is closed
	done    chan struct{}      // closed when they are made no more, and taken back
}

// announcement is one of them.
type announcement struct {
	*announcements
	l        *life
	log      *slog.Logger
	instance registry.Instance
}

// announce registers in the background: a registry that is down delays the announcements, not the serving.
func (l *life) announce(ctx context.Context) *announcements {
	ctx, cancel := context.WithCancel(ctx)
	all := &announcements{
		cancel: cancel, failed: make(chan error, len(l.instances)), leave: make(chan struct{}), done: make(chan struct{}),
	}
	var work sync.WaitGroup
	for _, in := range l.instances {
		a := &announcement{announcements: all, l: l, log: l.plain.With("service", in.Service, "address", in.Address), instance: in}
		work.Go(func() {
			if r := a.register(ctx); r != nil {
				a.follow(ctx, r)
				<-a.leave
				a.deregister(a.leaving, r)
			}
		})
	}
	go func() {
		work.Wait()
		close(all.done)
	}()
	return all
}

// register returns nil where there is nothing to take back.
func (a *announcement) register(ctx context.Context) registry.Registration {
	began := time.Now()
	for {
		in := a.instance
		in.Status, _ = a.l.controls.statusOf(&a.instance)
		r, err := a.l.Registrar.Register(ctx, in)
		switch {
		case err == nil:
			in := r.Instance()
			a.log.Info("rollcall: registered", "id", in.ID, "announced", in.Address, "took", time.Since(began))
			return r
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, registry.ErrDenied):
			a.failed <- err
			return nil
		}
		a.log.Error("rollcall: the registry denies the announcement; the server serves, but is not found", "error", err)
		t := time.NewTimer(deniedPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// follow keeps the status of r that of the service, until ctx ends.
func (a *announcement) follow(ctx context.Context, r registry.Registration) {
	for announced := r.Instance().Status; ; {
		status, changed := a.l.controls.statusOf(&a.instance)
		var again <-chan time.Time
		if status != announced {
			in := r.Instance()
			in.Status = status
			err := r.Update(ctx, in)
			switch {
			case err == nil:
				announced = status
				a.log.Info("rollcall: announced as " + status.String())
			case ctx.Err() != nil:
				return
			default:
				a.log.Error("rollcall: not announced as "+status.String(), "error", err)
				again = time.After(deniedPause)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

func (a *announcement) deregister(ctx context.Context, r registry.Registration) {
	if ctx.Err() != nil { // the attempt outlived the wait for it; the entry must not outlive the server
		late, cancel := context.WithTimeout(context.Background(), a.l.DeregisterTimeout)
		defer cancel()
		ctx = late
	}
	began := time.Now()
	if err := r.Deregister(ctx); err != nil {
		a.log.Error("rollcall: not deregistered; the entry stays until it expires", "error", err)
		return
	}
	a.log.Info("rollcall: deregistered", "took", time.Since(began))
}

// withdraw takes the announcements back, whatever has become of them. It reports false where a signal has cut the server
// meanwhile.
func (l *life) withdraw(a *announcements, signals <-chan os.Signal) bool {
	ctx, cancel := context.WithTimeout(context.Background(), l.DeregisterTimeout)
	defer cancel()
	a.leaving = ctx
	close(a.leave)
	a.cancel() // an attempt in flight ends first: what it announced is then known
	graceful := true
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
	case sig := <-signals:
		graceful = false
		l.cut(sig.String())
		cancel()
	}
	t := time.NewTimer(lastWait)
	defer t.Stop()
	select {
	case <-a.done:
	case <-t.C:
		l.Logger.Error("rollcall: the registrar does not return; an entry may stay until it expires")
	}
	return graceful
}

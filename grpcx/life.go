package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// life is one run of a Server, whose fields have their defaults filled in.
type life struct {
	Server
	gs        GRPCServer
	instances []registry.Instance // all that are announced
	listeners []net.Listener
	signals   chan os.Signal
	plain     *slog.Logger // for what concerns another service than the first

	serving  sync.WaitGroup
	served   chan struct{} // closed when the first listener is served no more
	serveErr error         // why; set before served is closed
	panicked any           // what serving it panicked with; likewise

	stopOnce sync.Once
	stopped  chan struct{} // closed when nobody is served any more, since gs was stopped

	askOnce  sync.Once
	asked    chan struct{} // closed when Drain is called
	doneOnce sync.Once
	drained  chan struct{} // closed when nobody is to be sent away any more
}

func (l *life) askDrain()  { l.askOnce.Do(func() { close(l.asked) }) }
func (l *life) isDrained() { l.doneOnce.Do(func() { close(l.drained) }) }

func (l *life) run(ctx context.Context) error {
	if len(l.Signals) > 0 {
		signal.Notify(l.signals, l.Signals...)
		defer signal.Stop(l.signals)
	}
	defer l.isDrained() // whoever waits for it need not any more
	l.controls.begin(l)
	l.serve()
	l.Logger.Info("rollcall: serving")
	a := l.announce(ctx)

	e := l.wait(ctx, a.failed, l.asked)
	switch {
	case e.drains:
		// No signal cuts this short, as the first one that comes is the one that Drain prepares for.
		l.leave(a, nil)
		l.isDrained()
		if e = l.wait(ctx, nil, nil); !e.stopped {
			l.stop()
		}
	case l.leave(a, l.signals): // also where a listener failed: gRPC goes on with the connections that it has
		l.stop()
	}
	l.serving.Wait()
	if l.panicked != nil {
		panic(l.panicked)
	}
	if e.err != nil {
		return fmt.Errorf("rollcall: serve %s: %w", l.Instance.Service, e.err)
	}
	return nil
}

// serve serves all listeners.
func (l *life) serve() {
	var first sync.Once
	for _, lis := range l.listeners {
		l.serving.Go(func() {
			var err error
			defer func() {
				p := recover()
				first.Do(func() {
					if l.serveErr = err; p != nil {
						// It goes on in Serve, once the server has left the registry.
						l.panicked = fmt.Sprintf("%v\n\nserving %s:\n%s", p, lis.Addr(), debug.Stack())
						l.serveErr = fmt.Errorf("panic: %v", p)
					}
					close(l.served)
				})
			}()
			if err = l.gs.Serve(lis); isStop(err) {
				l.stopOnce.Do(func() { close(l.stopped) })
			}
		})
	}
}

// isStop reports whether err is what Serve returns once its server was stopped.
func isStop(err error) bool { return err == nil || errors.Is(err, grpc.ErrServerStopped) }

// ending is why the server leaves.
type ending struct {
	err     error // that Serve returns
	drains  bool  // only Drain asks for it
	stopped bool  // nobody is served any more
}

// wait blocks until the server has to leave.
func (l *life) wait(ctx context.Context, failed <-chan error, asked <-chan struct{}) ending {
	select {
	case <-ctx.Done():
		l.Logger.Info("rollcall: leaving", "reason", context.Cause(ctx))
		l.forgetSignal()
	case sig := <-l.signals:
		l.Logger.Info("rollcall: leaving", "reason", sig)
	case <-asked:
		l.Logger.Info("rollcall: leaving", "reason", "Drain was called")
		return ending{drains: true}
	case <-l.served:
		if isStop(l.serveErr) {
			l.Logger.Info("rollcall: leaving, since the server was stopped")
			return ending{stopped: true}
		}
		l.Logger.Error("rollcall: leaving, since a listener failed", "error", l.serveErr)
		return ending{err: l.serveErr}
	case err := <-failed:
		l.Logger.Error("rollcall: leaving, since the server can never be found", "error", err)
		return ending{err: err}
	}
	return ending{}
}

// forgetSignal takes the signal that has also ended the caller's context, as [signal.NotifyContext] makes it: one signal must not
// count as two, of which the second cuts all calls.
func (l *life) forgetSignal() {
	if len(l.Signals) == 0 {
		return
	}
	signal.Notify(l.signals, l.Signals...) // changes nothing, and waits until a signal that is being handed out has reached all
	select {
	case <-l.signals:
	default:
	}
}

// leave sends clients away: by gRPC health, by the registry, and by serving on until the news has reached them. It reports
// false where nothing is left to stop: a signal has cut it short, or the caller has stopped the server.
func (l *life) leave(a *announcements, signals <-chan os.Signal) bool {
	if l.Health != nil {
		l.Health.Shutdown()
	}
	if !l.withdraw(a, signals) {
		return false
	}
	select {
	case <-l.stopped:
		return false
	default:
	}
	if l.DrainDelay < 0 {
		return true
	}
	began := time.Now()
	t := time.NewTimer(l.DrainDelay)
	defer t.Stop()
	select {
	case <-t.C:
		l.Logger.Info("rollcall: drained", "took", time.Since(began))
		return true
	case sig := <-signals:
		l.cut(sig.String())
	case <-l.stopped:
	}
	return false
}

// stop lets calls finish, and cuts what does not. It does not wait for GracefulStop after Stop: that waits for handlers,
// and one that heeds no context would hold the process.
func (l *life) stop() {
	if l.StopTimeout < 0 {
		l.gs.Stop()
		return
	}
	began := time.Now()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		l.gs.GracefulStop()
	}()
	t := time.NewTimer(l.StopTimeout)
	defer t.Stop()
	select {
	case <-graceful:
		l.Logger.Info("rollcall: stopped", "took", time.Since(began))
	case <-t.C:
		l.cut("deadline")
	case sig := <-l.signals:
		l.cut(sig.String())
	}
}

func (l *life) cut(reason string) {
	l.Logger.Warn("rollcall: cutting the rest", "reason", reason)
	l.gs.Stop()
}

package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/internal/fieldnames"
	"github.com/rollcall-go/rollcall/registry"
)

// serviceRun is one call of [Service.Serve], from serving to stopping. The fields of its Service have their defaults filled in.
type serviceRun struct {
	Service
	names      fieldnames.Names
	instances  []registry.Instance // to register
	registered []*registration     // for each of instances, nil if it is not registered yet; guarded by state.mu
	left       bool                // the run has begun to leave; guarded by state.mu
	listeners  []*listener
	servers    []Server // each once, also if it has several listeners
	signals    chan os.Signal
	baseLogger *slog.Logger // without attributes, for lines about services other than the first

	accepting  chan struct{} // closed when all listeners accept connections
	serving    sync.WaitGroup
	serveEnded chan struct{} // closed when Serve of a server has returned for one listener
	serveErr   error         // why; set before serveEnded is closed

	failed    chan error // receives the first error after which the run must leave
	panicOnce sync.Once
	panicked  chan any // receives what the first function of the caller panicked with, as a text

	closing chan struct{} // closed when clients are to move their connections
	stopMu  sync.Mutex
	running []Server      // servers that were not stopped; guarded by stopMu
	stopped chan struct{} // closed when all servers were stopped

	askOnce    sync.Once
	drainAsked chan struct{} // closed when Drain is called
	drainOnce  sync.Once
	drained    chan struct{} // closed when Drain can return
}

func (run *serviceRun) askDrain()   { run.askOnce.Do(func() { close(run.drainAsked) }) }
func (run *serviceRun) setDrained() { run.drainOnce.Do(func() { close(run.drained) }) }

// fail makes the run leave because of err, unless it already leaves because of another error.
func (run *serviceRun) fail(err error) {
	select {
	case run.failed <- err:
	default:
	}
}

// keepPanic keeps p and its stack, so that Serve can panic with them once the server has left the registry. It returns p as an error.
func (run *serviceRun) keepPanic(p any, doing string) error {
	run.Logger.Error("rollcall: panic", "while", doing, "reason", p)
	run.panicOnce.Do(func() { run.panicked <- fmt.Sprintf("%v\n\n%s:\n%s", p, doing, debug.Stack()) })
	return fmt.Errorf("panic: %v", p)
}

// serveAndLeave takes the steps of [Service.Serve].
func (run *serviceRun) serveAndLeave(ctx context.Context) error {
	if len(run.Signals) > 0 {
		signal.Notify(run.signals, run.Signals...)
		defer signal.Stop(run.signals)
	}
	run.state.begin(run)
	defer run.state.end(run)
	defer run.setDrained()
	if ctx.Err() != nil {
		run.Logger.Info("rollcall: not serving", "reason", context.Cause(ctx))
		run.state.leave(run)
		run.close()
		run.panicAgain()
		return nil
	}
	run.serve()
	run.Logger.Info("rollcall: serving")
	tasks := run.register(ctx)

	why := run.wait(ctx, run.failed, run.drainAsked)
	switch {
	case why.drain:
		// Signals do not cut this short: the first signal after Drain is the normal stop.
		run.leave(tasks, nil)
		run.setDrained()
		why = run.wait(ctx, nil, nil)
		run.stop()
	case run.leave(tasks, run.signals): // also if a listener failed: its server goes on with the connections that it has
		run.setDrained() // a handler may wait in Drain, and stop waits for handlers
		run.stop()
	}
	run.closeListeners()
	run.serving.Wait()
	run.panicAgain()
	if why.err != nil {
		return failure.New(opServe, run.Instance.Service, why.err)
	}
	return nil
}

// panicAgain panics with what keepPanic has kept.
func (run *serviceRun) panicAgain() {
	select {
	case p := <-run.panicked:
		panic(p)
	default:
	}
}

// close stops all servers and closes all listeners, of a run that does not begin to serve.
func (run *serviceRun) close() {
	run.closeListeners()
	run.closeServers()
}

// closeListeners closes all listeners, which most servers have done before.
func (run *serviceRun) closeListeners() {
	for _, lis := range run.listeners {
		run.call("closing a listener", lis.Close)
	}
}

// leaveReason is why a server leaves.
type leaveReason struct {
	err   error // for Serve to return
	drain bool  // Drain was called, so the servers go on serving
}

// wait blocks until there is a reason to leave, and then closes Leaving and reports that the servers leave.
func (run *serviceRun) wait(ctx context.Context, failed <-chan error, drainAsked <-chan struct{}) (why leaveReason) {
	var logged any
	fromSignal := false
	select {
	case <-ctx.Done():
		logged = context.Cause(ctx)
	case logged = <-run.signals:
		fromSignal = true
	case <-drainAsked:
		logged, why.drain = "Drain was called", true
	case <-run.serveEnded:
		logged, why.err = cmp.Or(run.serveErr, errStopped), run.serveErr
	case why.err = <-failed:
		logged = why.err
	}
	run.state.leave(run)
	level := slog.LevelInfo
	if why.err != nil {
		level = slog.LevelError
	}
	run.Logger.Log(context.Background(), level, "rollcall: leaving", "reason", logged)
	if ctx.Err() != nil && !fromSignal {
		run.discardSignal()
	}
	return why
}

// errStopped is logged as the reason to leave if the caller has stopped a server.
var errStopped = errors.New("the server was stopped")

// discardSignal discards the signal that has also ended the caller's context, as with [signal.NotifyContext]: one signal must not count
// as two, since the second cuts all calls.
func (run *serviceRun) discardSignal() {
	if len(run.Signals) == 0 {
		return
	}
	signal.Notify(run.signals, run.Signals...) // changes nothing, but returns only when a signal that is being delivered has reached all channels
	select {
	case <-run.signals:
	default:
	}
}

// stop lets requests finish, and cuts them after StopTimeout. It does not wait for a Shutdown that ignores the end of its context, since
// that would keep the process from ending.
func (run *serviceRun) stop() {
	if run.StopTimeout < 0 {
		run.closeServers()
		return
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	graceful := run.shutdownServers(ctx)
	t := time.NewTimer(run.StopTimeout)
	defer t.Stop()
	select {
	case <-graceful:
		run.Logger.Info("rollcall: stopped", "took", time.Since(began))
		return
	case <-t.C:
		run.cut("StopTimeout")
	case sig := <-run.signals:
		run.cut(sig.String())
	}
	cancel()
	returned := time.NewTimer(returnGrace)
	defer returned.Stop()
	select {
	case <-graceful:
	case <-returned.C:
	}
}

// shutdownServers shuts all servers down at the same time. The channel is closed when all have returned. A server that cannot be shut down
// is closed.
func (run *serviceRun) shutdownServers(ctx context.Context) <-chan struct{} {
	var work sync.WaitGroup
	for _, server := range run.servers {
		work.Go(func() {
			run.call("shutting down", func() error {
				err := server.Shutdown(ctx)
				if err != nil && ctx.Err() == nil {
					run.Logger.Warn("rollcall: shutting down failed, closing", "error", err)
					return server.Close()
				}
				return nil
			})
		})
	}
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	return done
}

func (run *serviceRun) cut(reason string) {
	run.Logger.Warn("rollcall: cutting the remaining calls", "reason", reason)
	run.closeServers()
}

// closeServers ends all requests. It closes all servers at the same time, since Stop of a gRPC server may wait for handshakes. What Close
// returns says nothing new: the listeners are closed, and requests are lost in any case.
func (run *serviceRun) closeServers() {
	var work sync.WaitGroup
	for _, server := range run.servers {
		work.Go(func() { run.call("closing", server.Close) })
	}
	work.Wait()
}

// call calls f, a function of the caller's server or listener. If f panics, so does Serve at its end.
func (run *serviceRun) call(doing string, f func() error) {
	defer func() {
		if p := recover(); p != nil {
			_ = run.keepPanic(p, doing)
		}
	}()
	_ = f()
}

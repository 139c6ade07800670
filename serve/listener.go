package serve

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// listener is a listener of a run. It reports when its server begins to accept connections.
type listener struct {
	net.Listener
	run      *serviceRun
	server   Server
	field    string // what errors call the server
	once     sync.Once
	accepted chan struct{} // closed when Accept was called
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.accepted) })
	return l.Listener.Accept()
}

// Close implements [net.Listener]. A panic must not pass through a server: an http.Server would keep its mutex locked, and Close of the server
// would block.
func (l *listener) Close() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = l.run.keepPanic(p, "closing a listener")
		}
	}()
	return l.Listener.Close()
}

// isServed reports whether Accept was called.
func (l *listener) isServed() bool {
	select {
	case <-l.accepted:
		return true
	default:
		return false
	}
}

// serve starts to serve all listeners.
func (run *serviceRun) serve() {
	var first sync.Once
	for _, lis := range run.listeners {
		run.serving.Go(func() {
			err := run.serveListener(lis)
			first.Do(func() {
				run.serveErr = err
				close(run.serveEnded)
			})
		})
	}
	run.serving.Go(func() {
		for _, lis := range run.listeners {
			select {
			case <-lis.accepted:
			case <-run.serveEnded:
				return
			}
		}
		close(run.accepting)
	})
}

// serveListener blocks until the server of lis has stopped, which is no error, or lis fails.
func (run *serviceRun) serveListener(lis *listener) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = run.keepPanic(p, "serving "+lis.Addr().String())
		}
	}()
	err = lis.server.Serve(lis)
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	run.noteStop(lis.server)
	if err != nil && !lis.isServed() {
		return fmt.Errorf("%w: %s was stopped before Serve: %w", registry.ErrClosed, lis.field, err)
	}
	return nil
}

// noteStop closes stopped if server is the last server to stop.
func (run *serviceRun) noteStop(server Server) {
	run.stopMu.Lock()
	defer run.stopMu.Unlock()
	for i, other := range run.running {
		if isSame(server, other) {
			run.running = append(run.running[:i], run.running[i+1:]...)
			if len(run.running) == 0 {
				close(run.stopped)
			}
			return
		}
	}
}

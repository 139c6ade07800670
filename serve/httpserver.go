package serve

import (
	"context"
	"net/http"
	"sync"
)

// httpServer is an http.Server that sends clients away while the service drains, and whose Shutdown waits for hijacked connections too.
// Its handler is the handler of the http.Server, wrapped.
type httpServer struct {
	*http.Server
	handler http.Handler    // of the caller
	closing <-chan struct{} // closed when clients are to move their connections

	mu       sync.Mutex
	upgrades int           // requests in progress that may hijack their connection
	none     chan struct{} // closed when upgrades becomes 0; nil if no one waits
}

func newHTTPServer(h *http.Server, closing <-chan struct{}) *httpServer {
	s := &httpServer{Server: h, handler: h.Handler, closing: closing}
	if s.handler == nil {
		s.handler = http.DefaultServeMux
	}
	h.Handler = http.HandlerFunc(s.handle)
	return s
}

// handle serves one request. While the service drains it asks HTTP/1 clients to close the connection after the response, which loses no
// request. [http.Server.SetKeepAlivesEnabled] would also close idle connections at once, and so the connections on which a request is on its
// way. HTTP/2 clients get their GOAWAY from Shutdown: each one may fail requests that cannot be sent again, so there must be only one.
func (s *httpServer) handle(w http.ResponseWriter, r *http.Request) {
	if isUpgrade(r) {
		defer s.upgrade()()
	} else if r.ProtoMajor == 1 && isClosed(s.closing) {
		w.Header().Set("Connection", "close")
	}
	s.handler.ServeHTTP(w, r)
}

// isUpgrade reports whether the handler of r may hijack the connection, as handlers of WebSockets do.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.Method == http.MethodConnect || r.Header.Get("Upgrade") != "")
}

// upgrade counts a request until done is called.
func (s *httpServer) upgrade() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upgrades++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.upgrades--
		if s.upgrades == 0 && s.none != nil {
			close(s.none)
			s.none = nil
		}
	}
}

// Shutdown implements [Server]. Shutdown of the http.Server does not wait for hijacked connections, so this one waits for their handlers.
func (s *httpServer) Shutdown(ctx context.Context) error {
	if err := s.Server.Shutdown(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.upgrades == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	none := s.none
	s.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

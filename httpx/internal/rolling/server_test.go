package rolling

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

const (
	service  = "rolling"
	idHeader = "Request-Id"
)

// executions counts how often each request was executed.
type executions struct {
	mu    sync.Mutex
	times map[string]int // by the ID of the request
}

func newExecutions() *executions { return &executions{times: map[string]int{}} }

func (e *executions) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times[id]++
}

// of returns how often a request was executed.
func (e *executions) of(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.times[id]
}

// newHTTPServer returns a server for HTTP/1.1 and for HTTP/2 without TLS. It answers with the body of a POST, or the ID of a GET.
func newHTTPServer(executed func(id string)) *http.Server {
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gets no answer
		}
		id := r.Header.Get(idHeader)
		executed(id)
		if r.Method == http.MethodGet {
			text = []byte(id)
		}
		w.Write(text)
	})}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// server is a server in this process.
type server struct {
	*serve.Service
	address  string
	answered atomic.Int64
	stop     context.CancelFunc
	done     chan error
}

// startServer starts a server that registers itself.
func startServer(t *testing.T, b *backend, e *executions) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reg := b.open(t)
	s := &server{address: lis.Addr().String(), done: make(chan error, 1)}
	s.Service = &serve.Service{Registrar: reg, Instance: registry.Instance{Service: service}, Signals: []os.Signal{}}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	var work sync.WaitGroup
	work.Go(func() {
		defer reg.Close()
		s.done <- s.Serve(ctx, newHTTPServer(func(id string) { s.answered.Add(1); e.add(id) }), lis)
	})
	t.Cleanup(func() { cancel(); work.Wait() })
	return s
}

// answers waits until the server answers requests.
func (s *server) answers(t *testing.T) {
	t.Helper()
	before := s.answered.Load()
	watchtest.Eventually(t, "a server to get 100 requests", func() bool { return s.answered.Load() >= before+100 })
}

// leaves stops the server as SIGTERM does.
func (s *server) leaves(t *testing.T) {
	t.Helper()
	s.stop()
	if err := watchtest.Receive(t, "a server to stop", s.done); err != nil {
		t.Error(err)
	}
}

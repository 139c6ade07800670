package serve_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

const service = "backend"

func newStore(t *testing.T) *memory.Registry {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { store.Close() })
	return store
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis
}

// hello answers every request.
var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

// running is a Serve in progress.
type running struct {
	address string
	leave   context.CancelFunc
	done    chan struct{}
	err     error // set before done is closed
}

// start serves srv on lis. Signals are off unless s sets them, and the service is backend unless s sets another.
func start(t *testing.T, s *serve.Service, srv serve.Server, lis net.Listener) *running {
	t.Helper()
	if s.Signals == nil {
		s.Signals = []os.Signal{}
	}
	if s.Instance.Service == "" {
		s.Instance.Service = service
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{address: lis.Addr().String(), leave: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Serve(ctx, srv, lis)
	}()
	t.Cleanup(func() { cancel(); srv.Close(); <-r.done })
	return r
}

// startHTTP serves a handler until the test ends.
func startHTTP(t *testing.T, s *serve.Service, h http.Handler) (*running, *http.Server) {
	t.Helper()
	srv := &http.Server{Handler: h}
	return start(t, s, srv, listen(t)), srv
}

// ends waits until Serve returns.
func (r *running) ends(t *testing.T) error {
	t.Helper()
	watchtest.Receive(t, "Serve to return", r.done)
	return r.err
}

// serves fails the test if Serve has returned.
func (r *running) serves(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
		t.Errorf("Serve has returned %v", r.err)
	default:
	}
}

func lookup(t *testing.T, d registry.Discovery) []*registry.Instance {
	t.Helper()
	set, err := d.Lookup(watchtest.Context(t), registry.Query{Service: service, AnyStatus: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func registered(t *testing.T, d registry.Discovery) {
	t.Helper()
	watchtest.Eventually(t, "it to be registered", func() bool { return len(lookup(t, d)) == 1 })
}

func deregistered(t *testing.T, d registry.Discovery) {
	t.Helper()
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, d)) == 0 })
}

func refusesConnections(address string) bool {
	c, err := net.Dial("tcp", address)
	if err == nil {
		c.Close()
	}
	return err != nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// get makes a request, and returns the code and the body.
func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(watchtest.Context(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

package serve_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// protocol is how the clients and servers of a test talk.
type protocol struct {
	scheme  string
	major   int
	server  func() *http.Server
	listen  func(*testing.T) net.Listener
	newBase func() *http.Transport
}

func protocols(t *testing.T) map[string]protocol {
	// httptest has a certificate for 127.0.0.1.
	certified := httptest.NewTLSServer(hello)
	config := certified.TLS.Clone()
	roots := certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	certified.Close()
	config.NextProtos = []string{"h2", "http/1.1"}

	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return map[string]protocol{
		"HTTP1": {
			"http", 1, func() *http.Server { return new(http.Server) }, listen,
			func() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 100} },
		},
		"HTTP2 over TLS": {
			"https", 2, func() *http.Server { return new(http.Server) },
			func(t *testing.T) net.Listener { return tls.NewListener(listen(t), config) },
			func() *http.Transport {
				return &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
			},
		},
		"HTTP2 without TLS": {
			"http", 2, func() *http.Server { return &http.Server{Protocols: &h2c} }, listen,
			func() *http.Transport { return &http.Transport{Protocols: &h2c} },
		},
	}
}

// follower is a client that sends requests to the instances in the registry in turn. It sends none twice.
type follower struct {
	protocol
	base *http.Transport

	mu       sync.Mutex
	set      []*registry.Instance
	turn     int
	requests map[string]int // in progress, by address
}

func follow(t *testing.T, store *memory.Registry, p protocol) *follower {
	f := &follower{protocol: p, base: p.newBase(), requests: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for set := range store.Watch(ctx, registry.Query{Service: service}) {
			f.mu.Lock()
			f.set = set
			f.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); work.Wait(); f.base.CloseIdleConnections() })
	return f
}

// begin chooses the address for a request. The request is in progress until end is called.
func (f *follower) begin() (to string, end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.set) == 0 {
		return "", func() {}
	}
	f.turn++
	to = f.set[f.turn%len(f.set)].Address
	f.requests[to]++
	return to, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests[to]--
	}
}

// hasLeft reports whether no request is, or will be, on its way to an address.
func (f *follower) hasLeft(address string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[address] == 0 && !slices.ContainsFunc(f.set, func(in *registry.Instance) bool { return in.Address == address })
}

// do sends one request, and returns the address that has answered.
func (f *follower) do(ctx context.Context, method string) (string, error) {
	to, end := f.begin()
	defer end()
	if to == "" {
		return "", errors.New("no instance")
	}
	attempts := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { attempts++ }})
	var body io.Reader
	if method == http.MethodPost {
		body = io.NopCloser(strings.NewReader("a body that cannot be sent again"))
	}
	req, err := http.NewRequestWithContext(ctx, method, f.scheme+"://"+to, body)
	if err != nil {
		return "", err
	}
	res, err := f.base.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return "", err
	}
	if attempts != 1 || res.StatusCode != http.StatusOK || res.ProtoMajor != f.major {
		return "", fmt.Errorf("%s after %d attempts, with HTTP/%d", res.Status, attempts, res.ProtoMajor)
	}
	return to, nil
}

// reaches waits until requests go to each address.
func (f *follower) reaches(t *testing.T, addresses ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, a := range addresses {
		missing[a] = true
	}
	watchtest.Eventually(t, "requests to reach all servers", func() bool {
		if f.hasLeft(addresses[0]) {
			return false // it does not know the address yet
		}
		to, err := f.do(watchtest.Context(t), http.MethodGet)
		if err != nil {
			t.Fatal(err)
		}
		delete(missing, to)
		return len(missing) == 0
	})
}

// Each server drains until the client has left it. How long a client needs for that depends on the load of the machine, so the test does
// not rely on a DrainDelay.
func TestServe_LosesNoRequestInRollingRestart(t *testing.T) {
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			var handled, answered atomic.Int64
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				handled.Add(1)
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, "hello")
			})
			type drainable struct {
				*running
				*serve.Service
			}
			begin := func() drainable {
				srv, s := p.server(), &serve.Service{Registrar: store, DrainDelay: -1}
				srv.Handler = handler
				return drainable{start(t, s, srv, p.listen(t)), s}
			}
			servers := []drainable{begin(), begin(), begin()}
			f := follow(t, store, p)
			for _, s := range servers {
				f.reaches(t, s.address)
			}
			stop := make(chan struct{})
			var clients sync.WaitGroup
			handled.Store(0)
			for i := range 8 {
				clients.Go(func() {
					for !isClosed(stop) {
						method := []string{http.MethodGet, http.MethodPost}[i%2]
						if _, err := f.do(watchtest.Context(t), method); err != nil {
							t.Errorf("%s: %v", method, err)
							return
						}
						answered.Add(1)
					}
				})
			}
			for i, s := range servers {
				servers[i] = begin()
				watchtest.Eventually(t, "a fourth server", func() bool { return len(lookup(t, store)) == 4 })
				if err := s.Drain(watchtest.Context(t)); err != nil {
					t.Error(err)
				}
				watchtest.Eventually(t, "the client to leave the server", func() bool { return f.hasLeft(s.address) })
				s.leave()
				if err := s.ends(t); err != nil {
					t.Error(err)
				}
			}
			close(stop)
			clients.Wait()
			if handled.Load() != answered.Load() {
				t.Errorf("servers handled %d requests, and clients got %d answers", handled.Load(), answered.Load())
			}
			t.Logf("%d requests", answered.Load())
			f.base.CloseIdleConnections()
		})
	}
}

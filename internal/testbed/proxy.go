package testbed

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// A Proxy forwards HTTP/1.1 requests to a server on a loopback port. It counts them, and injects faults on request. If the server
// is down, the proxy closes the client's connection. All methods may be called at any time from any goroutine.
type Proxy struct {
	addr      string
	forwarder *httputil.ReverseProxy

	mu          sync.Mutex
	mode        *mode
	connections map[net.Conn]struct{}
	exchanges   map[*exchange]struct{}
	requests    int
	log         []Request
}

// A Request is what a Proxy logs of a request.
type Request struct {
	Method string
	Path   string
	Query  url.Values
}

// logLimit is how many requests a Proxy logs before it removes the oldest half.
const logLimit = 10_000

// An exchange is a request on its way: the proxy has received it, and its answer has not been passed on in full.
type exchange struct {
	request *http.Request // its context ends with the client or by giveUp
	body    []byte
	giveUp  context.CancelCauseFunc
}

// NewProxy starts a proxy in front of target, a host:port, such as the Addr of a Consul. The proxy ends with the test. Requests
// that are then open are cut off, and no goroutine is left.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	return newProxy(tb, target, "tcp", loopback(0), (*http.Server).Serve)
}

// NewSocketProxy is NewProxy for clients of a Unix socket at path, which is its Addr.
func NewSocketProxy(tb testing.TB, target, path string) *Proxy {
	tb.Helper()
	return newProxy(tb, target, "unix", path, (*http.Server).Serve)
}

// NewTLSProxy is NewProxy for clients that speak HTTPS, of either version of HTTP, with a certificate and its key as PEM
// files. The proxy does not use TLS to the target.
func NewTLSProxy(tb testing.TB, target, certFile, keyFile string) *Proxy {
	tb.Helper()
	return newProxy(tb, target, "tcp", loopback(0), func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, certFile, keyFile) })
}

func newProxy(tb testing.TB, target, network, address string, serve func(*http.Server, net.Listener) error) *Proxy {
	tb.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		tb.Fatalf("testbed: a proxy for %s: %v", target, err)
	}
	p := &Proxy{
		addr:        listener.Addr().String(),
		mode:        newMode(),
		connections: make(map[net.Conn]struct{}),
		exchanges:   make(map[*exchange]struct{}),
	}
	// Compression is between the client and the server. Each request in flight needs a connection of its own, and as many are
	// kept, but not for long: a test that checks for remaining goroutines would find them.
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 200, IdleConnTimeout: time.Second}
	discard := log.New(io.Discard, "", 0)
	p.forwarder = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", target
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came, without the clean-up that Rewrite is given
		},
		FlushInterval:  -1,
		ModifyResponse: p.delayAnswer,
		ErrorHandler:   p.unanswered,
		ErrorLog:       discard,
	}
	var open sync.WaitGroup
	srv := &http.Server{Handler: p, ErrorLog: discard, ConnState: func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
			p.connected(c)
		case http.StateClosed, http.StateHijacked:
			p.disconnected(c)
			open.Done()
		}
	}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = serve(srv, listener) // always returns an error, here because of Close
	}()
	tb.Cleanup(func() {
		p.Refuse() // ends requests that hang
		_ = srv.Close()
		<-served
		open.Wait()
		transport.CloseIdleConnections()
	})
	return p
}

// Addr is the host:port of the proxy, or the path of its socket.
func (p *Proxy) Addr() string { return p.addr }

// Requests is how many requests the proxy has received. Each is counted before it is forwarded or answered. Requests that were not
// read because of Refuse are not counted.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Log is a copy of the requests received, oldest first: all of them, up to some thousands.
func (p *Proxy) Log() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.log...)
}

// InFlight is how many requests that match are open now: received, and neither answered in full nor given up by the client. If match
// is nil, all requests match. match must not change the request, nor call the proxy. A client may have its answer a moment before
// the proxy counts the request as done.
func (p *Proxy) InFlight(match func(*http.Request) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for x := range p.exchanges {
		if match == nil || match(x.request) {
			n++
		}
	}
	return n
}

// Connections is how many connections of clients are open now, idle connections included.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.connections)
}

// ServeHTTP is the handler of the proxy's own server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The server notices that a client has disconnected only after it has read the body, and a fault may delay that for long.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	ctx, giveUp := context.WithCancelCause(r.Context())
	defer giveUp(nil)
	x := &exchange{request: r.WithContext(ctx), body: body, giveUp: giveUp}
	p.begin(x)
	defer p.finish(x)
	p.serve(w, x)
}

func (p *Proxy) begin(x *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exchanges[x] = struct{}{}
	p.requests++
	if len(p.log) == logLimit {
		p.log = append(p.log[:0], p.log[logLimit/2:]...)
	}
	p.log = append(p.log, Request{x.request.Method, x.request.URL.Path, x.request.URL.Query()})
}

func (p *Proxy) finish(x *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.exchanges, x)
}

func (p *Proxy) connected(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connections[c] = struct{}{}
	if p.mode.fault == faultRefuse {
		reset(c)
	}
}

func (p *Proxy) disconnected(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

// again is the request with a body that can be read from the start.
func (x *exchange) again() *http.Request {
	r := x.request.WithContext(x.request.Context())
	r.Body = http.NoBody
	if len(x.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	return r
}

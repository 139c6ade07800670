package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

const service = "greeter"

// script is a Discovery that says what a test tells it to.
type script struct {
	registry.Discovery
	watches atomic.Int64
	pairs   chan said
}

type said struct {
	set []*registry.Instance
	err error
}

func (s *script) String() string { return "a script" }

func (s *script) Watch(ctx context.Context, q registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		s.watches.Add(1)
		defer s.watches.Add(-1)
		for {
			select {
			case p := <-s.pairs:
				if !yield(p.set, p.err) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// network is the network of a bubble: HTTP servers at addresses, reached without sockets, so that time is the bubble's.
type network struct {
	*testing.T
	*script

	mu      sync.Mutex
	servers map[string]*server
	dials   map[string]int // by address, of servers that are there or not
	hangs   bool           // an address without a server does not refuse
	current *httpx.Transport
}

// server is one server in the network.
type server struct {
	address  string
	http     *http.Server
	lis      *pipeListener
	work     sync.WaitGroup
	requests atomic.Int64
	opened   atomic.Int64 // connections that are open
}

func inANetwork(t *testing.T, test func(*network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		test(&network{T: t, script: &script{pairs: make(chan said)}, servers: map[string]*server{}, dials: map[string]int{}})
	})
}

// listen starts a server at address, which lives until it is stopped or the test ends. Without a handler it answers with its address.
func (n *network) listen(address string, handler http.HandlerFunc) *server {
	s := &server{address: address, lis: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, address) }
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.requests.Add(1)
			handler(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.opened.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.opened.Add(-1)
			}
		},
	}
	n.mu.Lock()
	n.servers[address] = s
	n.mu.Unlock()
	s.work.Go(func() { _ = s.http.Serve(s.lis) })
	n.Cleanup(func() {
		n.crash(s)
		time.Sleep(time.Second) // of the bubble: a connection of net/http's server lingers for a moment
	})
	return s
}

// crash breaks all connections to a server.
func (n *network) crash(s *server) {
	n.mu.Lock()
	if n.servers[s.address] == s {
		delete(n.servers, s.address)
	}
	n.mu.Unlock()
	s.http.Close()
	s.work.Wait()
}

// hang makes addresses without a server swallow attempts to connect.
func (n *network) hang(hangs bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hangs = hangs
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[address]++
	s, hangs := n.servers[address], n.hangs
	n.mu.Unlock()
	if s == nil && hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.lis.dial(ctx)
}

// dialled returns how often an address was dialled.
func (n *network) dialled(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[address]
}

// transport returns a Transport with the fields of t, over the network.
func (n *network) transport(t *httpx.Transport) *httpx.Transport {
	if t == nil {
		t = &httpx.Transport{}
	}
	if n.current != nil {
		n.current.Close() // or it would hear what the registry says
	}
	n.current = t
	t.Discovery = n.script
	t.Base = &http.Transport{DialContext: n.dial}
	t.Logger = slog.New(slog.DiscardHandler)
	n.Cleanup(func() { t.Close() })
	return t
}

// says lets the registry say something, and waits until the Transport has dealt with it. There must be one service, and a request to it.
func (n *network) says(err error, set ...*registry.Instance) {
	n.pairs <- said{set, err}
	synctest.Wait()
}

// connected makes a client, and makes a first request for it while the registry says set.
func (n *network) connected(t *httpx.Transport, set ...*registry.Instance) *http.Client {
	n.Helper()
	client := &http.Client{Transport: n.transport(t)}
	n.ask(client, set...)
	return client
}

// ask makes a first request while the registry says set, and returns the body or the error.
func (n *network) ask(client *http.Client, set ...*registry.Instance) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer)
	go func() {
		text, err := get(client)
		answered <- answer{text, err}
	}()
	n.pairs <- said{set, nil}
	a := <-answered
	synctest.Wait()
	return a.text, a.err
}

// get makes a request, and returns the body of the response.
func get(client *http.Client) (string, error) { return read(client.Get("http://greeter/hello")) }

func read(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// count makes requests, and returns how many each server has answered. Failures are under "failed".
func count(client *http.Client, requests int) map[string]int {
	got := map[string]int{}
	for range requests {
		text, err := get(client)
		if err != nil {
			text = "failed"
		}
		got[text]++
	}
	return got
}

// same reports whether the counts are equal.
func (n *network) same(when string, got, want map[string]int) {
	n.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		n.Errorf("%s: %v, want %v", when, got, want)
	}
}

// failsWith checks that err is a *registry.Error with these texts that wraps kind.
func failsWith(t *testing.T, err error, kind error, texts ...string) {
	t.Helper()
	var typed *registry.Error
	if !errors.As(err, &typed) || !errors.Is(err, kind) {
		t.Errorf("the error is %v, want a *registry.Error that wraps %v", err, kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %q, want %q in it", err, text)
		}
	}
}

// at returns an instance. Its ID is the host.
func at(address string, status registry.Status) *registry.Instance {
	return &registry.Instance{ID: "at-" + address, Service: service, Address: address, Weight: 1, Status: status}
}

// passing returns an instance at each address.
func passing(addresses ...string) (set []*registry.Instance) {
	for _, a := range addresses {
		set = append(set, at(a, registry.Passing))
	}
	return set
}

// critical is passing for instances that do not pass.
func critical(addresses ...string) (set []*registry.Instance) {
	for _, a := range addresses {
		set = append(set, at(a, registry.Critical))
	}
	return set
}

// pipeListener accepts the ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

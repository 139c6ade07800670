package consul

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// tcpBalancer passes each connection on to the next of its targets.
type tcpBalancer struct {
	net.Listener
	mu      sync.Mutex
	targets []string
	next    int
	conns   []net.Conn
}

func newTCPBalancer(t *testing.T, targets ...string) *tcpBalancer {
	t.Helper()
	return newTCPBalancerAt(t, "127.0.0.1:0", targets...)
}

func newTCPBalancerAt(t *testing.T, address string, targets ...string) *tcpBalancer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b := &tcpBalancer{Listener: l, targets: targets}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.point()
		work.Wait()
	})
	return b
}

// point directs all connections to targets. It closes the connections that are open.
func (b *tcpBalancer) point(targets ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets = targets
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

func (b *tcpBalancer) serve(conn net.Conn) {
	defer conn.Close()
	b.mu.Lock()
	if len(b.targets) == 0 {
		b.mu.Unlock()
		return
	}
	target := b.targets[b.next%len(b.targets)]
	b.next++
	b.conns = append(b.conns, conn)
	b.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		io.Copy(out, conn)
		out.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(conn, out)
}

// newHTTPBalancer passes each request on to the next of its targets.
func newHTTPBalancer(t *testing.T, targets ...string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	var next atomic.Uint64
	srv := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", targets[next.Add(1)%uint64(len(targets))]
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }})
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestDeregister_LeavesNoCopyBehindABalancer(t *testing.T) {
	t.Parallel()
	server := testbed.StartConsul(t)
	client := startClientAgent(t, server)
	operator := operatorOf(t, server)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // what the check connects to, as long as the test lasts
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, address := range map[string]string{
		"TCP":  newTCPBalancer(t, server.Addr(), client.Addr()).Addr().String(),
		"HTTP": newHTTPBalancer(t, server.Addr(), client.Addr()),
	} {
		for _, kind := range []string{CheckTTL, CheckTCP} {
			t.Run(name+" "+kind, func(t *testing.T) {
				r := open(t, Config{Address: address, Checks: Checks{Kinds: []string{kind}}, TTL: minTTL})
				for _, id := range []string{"a", "b", "c"} {
					in := registry.Instance{ID: id, Service: uniqueService(), Address: listener.Addr().String()}
					g := watchtest.Register(t, r, in)
					// Each of these may reach the other agent.
					for _, version := range []string{"1", "2", "3"} {
						watchtest.Update(t, g, func(in *registry.Instance) { in.Version = version })
					}
					if err := g.Deregister(watchtest.Context(t)); err != nil {
						t.Error(err)
					}
					wantNonePassing(t, operator, in.Service)
				}
			})
		}
	}
}

func TestDeregister_SaysThatAnotherAgentAnswers(t *testing.T) {
	t.Parallel()
	server := testbed.StartConsul(t)
	client := startClientAgent(t, server)
	operator := operatorOf(t, server)
	b := newTCPBalancer(t, client.Addr())
	l, in := registerLease(t, Config{Address: b.Addr().String()})
	watchtest.Eventually(t, "it passes", func() bool { return passing(t, operator, in.Service) == 1 })
	b.point(server.Addr())
	err := l.Release(watchtest.Context(t))
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "another agent") || !strings.Contains(err.Error(), client.Node()) {
		t.Errorf("Release at an agent that does not have the entry returned %v", err)
	}
	b.point(client.Addr())
	if err := l.Release(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	wantNonePassing(t, operator, in.Service)
}

func TestDeregister_WithoutTheRightToReadTheCatalog(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr()})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"})
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/") {
			return false
		}
		http.Error(w, "Permission denied", http.StatusForbidden)
		return true
	})
	if err := g.Deregister(watchtest.Within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
}

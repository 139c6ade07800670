package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A backend is a server whose answers the test lets go one by one.
type backend struct {
	addr    string
	arrived chan struct{} // a request is here
	answers chan string   // what the next answer says
	gone    chan struct{} // a request was given up by whoever sent it
}

func startBackend(t *testing.T) *backend {
	b := &backend{arrived: make(chan struct{}, 100), answers: make(chan string), gone: make(chan struct{}, 100)}
	listener, err := net.Listen("tcp", loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	b.addr = listener.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.arrived <- struct{}{}
		select {
		case answer := <-b.answers:
			w.Header().Set("X-Seen", r.Method+" "+r.RequestURI+" "+string(body))
			_, _ = io.WriteString(w, answer)
		case <-r.Context().Done():
			b.gone <- struct{}{}
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(listener) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return b
}

type result struct {
	status int
	body   string
	seen   string
	err    error
}

func (r result) String() string {
	return fmt.Sprintf("status %d, body %q, seen as %q, error %v", r.status, r.body, r.seen, r.err)
}

// ask begins a request to the proxy and returns when that has it.
func ask(ctx context.Context, t *testing.T, p *Proxy, method, path, body string) <-chan result {
	t.Helper()
	results := make(chan result, 1)
	before := p.Requests()
	go func() { results <- exchangeOnce(ctx, p, method, path, body) }()
	eventually(t, "the proxy receives the request", func() bool { return p.Requests() > before || len(results) > 0 })
	return results
}

func exchangeOnce(ctx context.Context, p *Proxy, method, path, body string) result {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.Addr()+path, strings.NewReader(body))
	if err != nil {
		return result{err: err}
	}
	resp, err := probe.Do(req)
	if err != nil {
		return result{err: err}
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return result{resp.StatusCode, string(answer), resp.Header.Get("X-Seen"), err}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(signalTimeout); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

func TestProxyForwards(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	r := ask(t.Context(), t, p, http.MethodPut, "/a%2Fb?x=1;2&y=%20", "body")
	isPut := func(r *http.Request) bool { return r.Method == http.MethodPut }
	isGet := func(r *http.Request) bool { return r.Method == http.MethodGet }
	if p.InFlight(nil) != 1 || p.InFlight(isPut) != 1 || p.InFlight(isGet) != 0 || p.Connections() != 1 {
		t.Errorf("in flight: %d, PUT %d, GET %d, on %d connections; want 1, 1, 0 on 1",
			p.InFlight(nil), p.InFlight(isPut), p.InFlight(isGet), p.Connections())
	}
	b.answers <- "done"
	if got := <-r; got.body != "done" || got.seen != "PUT /a%2Fb?x=1;2&y=%20 body" {
		t.Errorf("got %v", got)
	}
	eventually(t, "nothing is in flight or connected", func() bool { return p.InFlight(nil) == 0 && p.Connections() == 0 })
	if log := p.Log(); p.Requests() != 1 || len(log) != 1 || log[0].Path != "/a/b" || log[0].Query.Get("y") != " " {
		t.Errorf("%d requests, of which the log has %+v", p.Requests(), log)
	}
}

func TestProxyPassesCancellationOn(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	ctx, cancel := context.WithCancel(t.Context())
	r := ask(ctx, t, p, http.MethodPut, "/", "a body, which must not hide that the client has gone")
	<-b.arrived
	cancel()
	<-b.gone
	if got := <-r; !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %v", got)
	}
	eventually(t, "nothing is in flight", func() bool { return p.InFlight(nil) == 0 })
}

func TestProxyOfADeadServerClosesTheConnection(t *testing.T) {
	t.Parallel()
	ports, err := reservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	defer releasePorts(ports)
	p := NewProxy(t, loopback(ports[0]))
	if got := exchangeOnce(t.Context(), p, http.MethodGet, "/", ""); !errors.Is(got.err, io.EOF) {
		t.Errorf("got %v, want a closed connection", got)
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	inFlight := ask(t.Context(), t, p, http.MethodGet, "/", "")
	<-b.arrived
	p.Fail(http.StatusInternalServerError, "No cluster leader")
	p.Heal() // even at once, the request in flight is failed
	if got := <-inFlight; got.status != http.StatusInternalServerError || got.body != "No cluster leader" {
		t.Errorf("the request in flight got %v", got)
	}
	<-b.gone
	p.Fail(http.StatusTooManyRequests, "slow down")
	if got := exchangeOnce(t.Context(), p, http.MethodGet, "/", ""); got.status != http.StatusTooManyRequests {
		t.Errorf("a new request got %v", got)
	}
	p.Heal()
	wantForwarded(t, b, p)
}

func TestHang(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	inFlight := ask(t.Context(), t, p, http.MethodGet, "/old", "")
	<-b.arrived // and not on its way, where Hang would keep it
	p.Hang()
	b.answers <- "held back"
	fresh := ask(t.Context(), t, p, http.MethodPut, "/new", "kept")
	ctx, cancel := context.WithCancel(t.Context())
	impatient := ask(ctx, t, p, http.MethodPut, "/", "given up")
	cancel()
	if got := <-impatient; !errors.Is(got.err, context.Canceled) {
		t.Errorf("a client that gives up got %v", got)
	}
	eventually(t, "two requests are in flight", func() bool { return p.InFlight(nil) == 2 })
	select {
	case got := <-inFlight:
		t.Errorf("the request in flight got %v", got)
	case got := <-fresh:
		t.Errorf("a new request got %v", got)
	case b.answers <- "too early":
		t.Error("a new request was forwarded")
	case <-time.After(100 * time.Millisecond):
	}
	p.Heal()
	if got := <-inFlight; got.body != "held back" {
		t.Errorf("the request in flight got %v", got)
	}
	b.answers <- "late"
	if got := <-fresh; got.body != "late" || got.seen != "PUT /new kept" {
		t.Errorf("a new request got %v", got)
	}
}

func TestHangThenFail(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	inFlight := ask(t.Context(), t, p, http.MethodGet, "/", "")
	p.Hang()
	fresh := ask(t.Context(), t, p, http.MethodGet, "/", "")
	p.Fail(http.StatusServiceUnavailable, "")
	for _, r := range []<-chan result{inFlight, fresh} {
		if got := <-r; got.status != http.StatusServiceUnavailable {
			t.Errorf("got %v", got)
		}
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	inFlight := ask(t.Context(), t, p, http.MethodGet, "/", "")
	<-b.arrived
	p.Refuse()
	if got := <-inFlight; !errors.Is(got.err, syscall.ECONNRESET) && !errors.Is(got.err, io.EOF) {
		t.Errorf("the request in flight got %v", got)
	}
	<-b.gone
	if got := exchangeOnce(t.Context(), p, http.MethodGet, "/", ""); got.err == nil {
		t.Errorf("a new request got %v", got)
	}
	if p.Requests() != 1 {
		t.Errorf("the proxy has read %d requests, want that from before Refuse alone", p.Requests())
	}
	p.Heal()
	wantForwarded(t, b, p)
}

func TestIntercept(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if body, _ := io.ReadAll(r.Body); string(body) != "mine" {
			return false
		}
		w.Header().Set("X-Consul-Index", "1")
		_, _ = io.WriteString(w, "[]")
		return true
	})
	if got := exchangeOnce(t.Context(), p, http.MethodPut, "/", "mine"); got.status != http.StatusOK || got.body != "[]" {
		t.Errorf("the intercepted request got %v", got)
	}
	r := ask(t.Context(), t, p, http.MethodPut, "/", "yours")
	b.answers <- "forwarded"
	if got := <-r; got.seen != "PUT / yours" {
		t.Errorf("the other request got %v", got)
	}
	p.Heal()
	r = ask(t.Context(), t, p, http.MethodPut, "/", "mine")
	b.answers <- "forwarded"
	if got := <-r; got.seen != "PUT / mine" {
		t.Errorf("after Heal got %v", got)
	}
}

// What the testbed is for: one blocking query of a real agent, seen, broken and found again.
func TestProxyOfConsul(t *testing.T) {
	t.Parallel()
	c := StartConsul(t)
	p := NewProxy(t, c.Addr())
	blocking := func(r *http.Request) bool { return r.URL.Query().Has("index") }
	query := func() <-chan result {
		return ask(t.Context(), t, p, http.MethodGet, "/v1/kv/k?raw&wait=60s&index=1000000", "")
	}
	c.put(t, "first")
	r := query()
	if n := p.InFlight(blocking); n != 1 {
		t.Fatalf("%d blocking queries are open, want 1", n)
	}
	c.Kill()
	if got := <-r; got.err == nil {
		t.Errorf("the query of a killed agent got %v", got)
	}
	c.Restart(true)
	if got := exchangeOnce(t.Context(), p, http.MethodGet, "/v1/kv/k?raw", ""); got.body != "first" {
		t.Errorf("after a restart got %v", got)
	}
	query() // is open when the test ends, and ends with it
}

func wantForwarded(t *testing.T, b *backend, p *Proxy) {
	t.Helper()
	r := ask(t.Context(), t, p, http.MethodGet, "/", "")
	b.answers <- "healed"
	if got := <-r; got.body != "healed" {
		t.Errorf("after Heal got %v", got)
	}
}

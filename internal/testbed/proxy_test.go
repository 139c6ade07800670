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

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// A backend is a server that waits with each answer until the test gives it one.
type backend struct {
	addr    string
	arrived chan struct{} // a request is here
	answers chan string   // what the next answer says
	gone    chan struct{} // the client has given a request up
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
	watchtest.Eventually(t, "the proxy receives the request", func() bool { return p.Requests() > before || len(results) > 0 })
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

func TestProxy_Forwards(t *testing.T) {
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
	watchtest.Eventually(t, "nothing is in flight or connected", func() bool { return p.InFlight(nil) == 0 && p.Connections() == 0 })
	if log := p.Log(); p.Requests() != 1 || len(log) != 1 || log[0].Path != "/a/b" || log[0].Query.Get("y") != " " {
		t.Errorf("%d requests, of which the log has %+v", p.Requests(), log)
	}
}

func TestProxy_ForwardsCancellation(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	ctx, cancel := context.WithCancel(t.Context())
	r := ask(ctx, t, p, http.MethodPut, "/", "a body, which must not hide that the client has disconnected")
	<-b.arrived
	cancel()
	<-b.gone
	if got := <-r; !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %v", got)
	}
	watchtest.Eventually(t, "nothing is in flight", func() bool { return p.InFlight(nil) == 0 })
}

func TestProxy_ClosesConnectionIfServerIsDown(t *testing.T) {
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

func TestProxy_Fails(t *testing.T) {
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

func TestProxy_Hangs(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	p := NewProxy(t, b.addr)
	inFlight := ask(t.Context(), t, p, http.MethodGet, "/old", "")
	<-b.arrived // otherwise Hang would delay it on its way to the backend
	p.Hang()
	b.answers <- "delayed"
	fresh := ask(t.Context(), t, p, http.MethodPut, "/new", "kept")
	ctx, cancel := context.WithCancel(t.Context())
	impatient := ask(ctx, t, p, http.MethodPut, "/", "given up")
	cancel()
	if got := <-impatient; !errors.Is(got.err, context.Canceled) {
		t.Errorf("a client that gives up got %v", got)
	}
	watchtest.Eventually(t, "two requests are in flight", func() bool { return p.InFlight(nil) == 2 })
	// Meanwhile 20 requests pass through another proxy, so that a request which does not hang would have passed too.
	other := NewProxy(t, b.addr)
	for range 20 {
		passing := ask(t.Context(), t, other, http.MethodGet, "/other", "")
		watchtest.Receive(t, "the request to reach the backend", b.arrived)
		b.answers <- "passed"
		if got := watchtest.Receive(t, "the answer of the other proxy", passing); got.body != "passed" || got.seen != "GET /other" {
			t.Fatalf("the request to the other proxy got %v", got)
		}
	}
	if len(inFlight) > 0 || len(fresh) > 0 || len(b.arrived) > 0 {
		t.Errorf("of the two requests that hang %d and %d have an answer; %d reached the backend", len(inFlight), len(fresh), len(b.arrived))
	}
	p.Heal()
	if got := <-inFlight; got.body != "delayed" {
		t.Errorf("the request in flight got %v", got)
	}
	b.answers <- "late"
	if got := <-fresh; got.body != "late" || got.seen != "PUT /new kept" {
		t.Errorf("a new request got %v", got)
	}
}

func TestProxy_FailsAfterHanging(t *testing.T) {
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

func TestProxy_Refuses(t *testing.T) {
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
		t.Errorf("the proxy has read %d requests, want only the one from before Refuse", p.Requests())
	}
	p.Heal()
	wantForwarded(t, b, p)
}

func TestProxy_Intercepts(t *testing.T) {
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

// The proxy shows a blocking query of a real agent, which fails when the agent is killed and succeeds after the restart.
func TestProxy_OfConsul(t *testing.T) {
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
	query() // is still open when the test ends
}

func wantForwarded(t *testing.T, b *backend, p *Proxy) {
	t.Helper()
	r := ask(t.Context(), t, p, http.MethodGet, "/", "")
	b.answers <- "healed"
	if got := <-r; got.body != "healed" {
		t.Errorf("after Heal got %v", got)
	}
}

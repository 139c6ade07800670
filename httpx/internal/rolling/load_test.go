package rolling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	rate     = 2000 // requests a second of all clients, at the most
	inFlight = 100  // limit of concurrent requests; a busy machine makes fewer requests a second
)

// client is one kind of client, with a Transport of its own.
type client struct {
	name      string
	http2     bool
	retries   bool
	transport *httpx.Transport
}

// newClients returns a client for each protocol, with retries and without.
func newClients(t *testing.T, d registry.Discovery) (all []*client) {
	for _, http2 := range []bool{false, true} {
		for _, retries := range []bool{true, false} {
			c := &client{name: "HTTP/1.1", http2: http2, retries: retries}
			c.transport = &httpx.Transport{Discovery: d, Base: &http.Transport{Protocols: new(http.Protocols)}}
			c.transport.Base.Protocols.SetHTTP1(!http2)
			c.transport.Base.Protocols.SetUnencryptedHTTP2(http2)
			if http2 {
				c.name = "HTTP/2"
			}
			if !retries {
				c.name += " without retries"
				c.transport.MaxAttempts = 1
			}
			t.Cleanup(func() { c.transport.Close() })
			all = append(all, c)
		}
	}
	return all
}

// request is one request of the load.
type request struct {
	client      *client
	id          string
	isPost      bool
	began       time.Time
	instance    *registry.Instance // that it went to last
	connections int                // that net/http has used for it
	err         error
}

// load makes requests at a steady rate, GET and POST in turn, with each client in turn.
type load struct {
	clients  []*client
	requests atomic.Int64
	began    time.Time
	took     time.Duration
	work     sync.WaitGroup
	end      context.CancelFunc

	mu     sync.Mutex
	all    []*request
	failed []*request
}

func startLoad(clients []*client) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{clients: clients, began: time.Now(), end: cancel}
	l.work.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		slots := make(chan struct{}, inFlight)
		for made := 0; ctx.Err() == nil; <-tick.C {
			due := int(time.Since(l.began).Seconds() * rate)
			for number := made; number < due; number++ {
				select {
				case slots <- struct{}{}:
					l.work.Go(func() {
						l.make(number)
						<-slots
					})
				default:
				}
			}
			made = max(made, due)
		}
	})
	return l
}

// make makes the request of that number.
func (l *load) make(number int) {
	r := &request{client: l.clients[number%len(l.clients)], id: fmt.Sprint(number), isPost: number/len(l.clients)%2 == 1, began: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), watchtest.Timeout)
	defer cancel()
	ctx, served := httpx.WithServed(ctx)
	r.err = r.send(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { r.connections++ }}))
	r.instance = served.Instance()
	l.requests.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
	if r.err != nil {
		l.failed = append(l.failed, r)
	}
}

func (r *request) send(ctx context.Context) error {
	method, body, major := http.MethodGet, io.Reader(nil), 1
	if r.isPost {
		method, body = http.MethodPost, io.NopCloser(strings.NewReader(r.id)) // has no GetBody
	}
	if r.client.http2 {
		major = 2
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+service+"/", body)
	if err != nil {
		return err
	}
	req.Header.Set(idHeader, r.id)
	resp, err := r.client.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != major || string(text) != r.id {
		return fmt.Errorf("the response is %s %s %q", resp.Proto, resp.Status, text)
	}
	return nil
}

// stop blocks until all requests have ended.
func (l *load) stop(t *testing.T) {
	l.end()
	l.work.Wait()
	l.took = time.Since(l.began)
	t.Logf("%d requests in %v, %.0f a second, %d failed", len(l.all), l.took.Round(time.Millisecond), float64(len(l.all))/l.took.Seconds(), len(l.failed))
	if len(l.all) < 1000 {
		t.Error("that is no load")
	}
}

// goesOn waits for further requests.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	want := l.requests.Load() + 500
	watchtest.Eventually(t, "500 further requests", func() bool { return l.requests.Load() >= want })
}

// failsNothing checks that each request was answered and was executed once.
func (l *load) failsNothing(t *testing.T, e *executions) {
	t.Helper()
	var errs []error
	for _, r := range l.failed {
		errs = append(errs, r.failure())
	}
	for _, r := range l.all {
		if times := e.of(r.id); times != 1 && r.err == nil {
			errs = append(errs, fmt.Errorf("request %s with %s was executed %d times", r.id, r.client.name, times))
		}
	}
	if len(errs) > 0 {
		t.Errorf("%d failures, such as %v", len(errs), errors.Join(errs[:min(len(errs), 5)]...))
	}
}

func (r *request) failure() error {
	kind := "GET"
	if r.isPost {
		kind = "POST"
	}
	return fmt.Errorf("%s %s with %s, begun at %s: %w", kind, r.id, r.client.name, r.began.Format(time.StampMicro), r.err)
}

// waitFor waits until the Transports of all clients have a state of the service.
func (l *load) waitFor(t *testing.T, what string, has func(httpx.ServiceState) bool) {
	t.Helper()
	for _, c := range l.clients {
		watchtest.Eventually(t, what, func() bool {
			services := c.transport.Snapshot().Services
			return len(services) == 1 && has(services[0])
		})
	}
}

package httpx_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

// body is the body of a request that can be read only once, and knows what happens to it.
type body struct {
	io.Reader
	read, closed atomic.Int64
}

func newBody(text string) *body { return &body{Reader: strings.NewReader(text)} }

func (b *body) Read(p []byte) (int, error) {
	b.read.Add(1)
	return b.Reader.Read(p)
}

func (b *body) Close() error {
	b.closed.Add(1)
	return nil
}

// dropConnection is a handler that reads the request and closes the connection without a response.
func dropConnection(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	c.Close()
}

// echo is a handler that answers with its name and the body.
func echo(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		fmt.Fprint(w, name, " ", string(text), err)
	}
}

func TestTransport_TriesAnotherInstanceIfTheConnectionCannotBeMade(t *testing.T) {
	inANetwork(t, func(n *network) {
		s := n.listen("c:1", echo("c"))
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
			for _, attempts := range []int{0, 1} {
				client := n.connected(&httpx.Transport{MaxAttempts: attempts, PanicThreshold: 1}, passing("a:1", "b:1", "c:1")...)
				before := s.requests.Load()
				b := newBody("hello")
				req, err := http.NewRequest(method, "http://greeter/", b)
				if err != nil {
					n.Fatal(err)
				}
				resp, err := client.Do(req)
				if text, err := read(resp, err); err != nil || text != "c hello<nil>" {
					n.Errorf("%s with MaxAttempts %d gets %q, %v", method, attempts, text, err)
				}
				synctest.Wait()
				if got := s.requests.Load() - before; got != 1 || b.closed.Load() != 1 {
					n.Errorf("%s: the server got %d requests; the body was closed %d times", method, got, b.closed.Load())
				}
			}
		}
	})
}

func TestTransport_NamesTheInstanceThatCannotBeReached(t *testing.T) {
	inANetwork(t, func(n *network) {
		client := &http.Client{Transport: n.transport(nil)}
		_, err := n.ask(client, passing("a:1")...)
		failsWith(n.T, err, registry.ErrUnavailable, "request greeter/at-a:1: ", "a script", "connection refused")
		b := newBody("hello")
		resp, err := client.Post("http://greeter/", "", b)
		if _, err := read(resp, err); err == nil || b.closed.Load() != 1 || b.read.Load() != 0 {
			n.Errorf("the request fails with %v; its body was read %d times and closed %d times", err, b.read.Load(), b.closed.Load())
		}
	})
}

// lostRequest is a request that reaches an instance which closes the connection without a response.
type lostRequest struct {
	method  string
	header  http.Header
	body    func() io.Reader
	isTried bool // on another instance
}

func TestTransport_SendsOnlySafeRequestsAgain(t *testing.T) {
	noBody := func() io.Reader { return nil }
	text := func() io.Reader { return strings.NewReader("hello") } // http.NewRequest gives it a GetBody
	stream := func() io.Reader { return newBody("hello") }
	key := http.Header{"Idempotency-Key": {"7"}}
	for _, c := range []lostRequest{
		{http.MethodGet, nil, noBody, true},
		{http.MethodHead, nil, noBody, true},
		{http.MethodOptions, nil, noBody, true},
		{http.MethodDelete, nil, noBody, true},
		{http.MethodPut, nil, text, true},
		{http.MethodPut, nil, stream, false},
		{http.MethodPost, nil, noBody, false},
		{http.MethodPost, nil, text, false},
		{http.MethodPost, nil, stream, false},
		{http.MethodPatch, nil, text, false},
		{http.MethodPost, key, noBody, true},
		{http.MethodPost, key, text, true},
		{http.MethodPost, key, stream, false},
		{http.MethodPost, http.Header{"X-Idempotency-Key": nil}, text, true},
	} {
		for _, attempts := range []int{1, 3} {
			t.Run(fmt.Sprint(c.method, c.header, attempts), func(t *testing.T) { c.check(t, attempts) })
		}
	}
}

func (c lostRequest) check(t *testing.T, attempts int) {
	inANetwork(t, func(n *network) {
		for _, warm := range []bool{false, true} { // over a new connection, and over a used one
			var lost atomic.Bool
			handler := func(w http.ResponseWriter, r *http.Request) {
				if !lost.Load() {
					fmt.Fprint(w, "early")
				} else if lost.CompareAndSwap(true, false) {
					dropConnection(w, r)
				}
			}
			second := func(w http.ResponseWriter, r *http.Request) { handler(w, r) }
			a, b := n.listen("a:1", second), n.listen("b:1", second)
			client := n.connected(&httpx.Transport{MaxAttempts: attempts}, passing("a:1", "b:1")...)
			if warm {
				count(client, 4)
			}
			before := a.requests.Load() + b.requests.Load()
			lost.Store(true)
			req, err := http.NewRequest(c.method, "http://greeter/", c.body())
			if err != nil {
				n.Fatal(err)
			}
			for k, v := range c.header {
				req.Header[k] = v
			}
			_, err = read(client.Do(req))
			sent := a.requests.Load() + b.requests.Load() - before
			// net/http itself repeats some requests on a connection that had served before.
			if want := c.isTried && attempts > 1; want && (err != nil || sent < 2) || !c.isTried && (err == nil || sent != 1) || !warm && !want && err == nil {
				n.Errorf("warm %v: the request was sent %d times and ends with %v", warm, sent, err)
			}
			n.crash(a)
			n.crash(b)
		}
	})
}

func TestTransport_NeverSendsAgainAfterAResponseBegan(t *testing.T) {
	inANetwork(t, func(n *network) {
		cut := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		a, b := n.listen("a:1", cut), n.listen("b:1", cut)
		client := &http.Client{Transport: n.transport(nil)}
		text, err := n.ask(client, passing("a:1", "b:1")...)
		if sent := a.requests.Load() + b.requests.Load(); text != "half" || !errors.Is(err, io.ErrUnexpectedEOF) || sent != 1 {
			n.Errorf("the request was sent %d times, and gets %q, %v", sent, text, err)
		}
	})
}

func TestTransport_StopsAfterMaxAttempts(t *testing.T) {
	inANetwork(t, func(n *network) {
		var all []*server
		for _, a := range []string{"a:1", "b:1", "c:1", "d:1"} {
			all = append(all, n.listen(a, dropConnection))
		}
		client := &http.Client{Transport: n.transport(nil)}
		_, err := n.ask(client, passing("a:1", "b:1", "c:1", "d:1")...)
		sent := 0
		for _, s := range all {
			got := int(s.requests.Load())
			sent += got
			if got > 1 {
				n.Errorf("an instance got the request %d times", got)
			}
		}
		if err == nil || sent != httpx.DefaultMaxAttempts {
			n.Errorf("the request was sent %d times and ends with %v", sent, err)
		}
	})
}

func TestTransport_OnlyInstanceIsTriedAgainAfterAPause(t *testing.T) {
	inANetwork(t, func(n *network) {
		s := n.listen("a:1", dropConnection)
		client := &http.Client{Transport: n.transport(nil)}
		began := time.Now()
		_, err := n.ask(client, passing("a:1")...)
		if took := time.Since(began); err == nil || s.requests.Load() != 3 || took < 40*time.Millisecond || took > 60*time.Millisecond {
			n.Errorf("after %v and %d attempts the request ends with %v", took, s.requests.Load(), err)
		}
	})
}

func TestTransport_RetryBudget(t *testing.T) {
	inANetwork(t, func(n *network) {
		var fails atomic.Bool
		handler := func(w http.ResponseWriter, r *http.Request) {
			if fails.Load() {
				dropConnection(w, r)
			}
		}
		a, b := n.listen("a:1", handler), n.listen("b:1", handler)
		client := n.connected(&httpx.Transport{RetryBudget: 10}, passing("a:1", "b:1")...)
		sent := func(requests int) int64 {
			before := a.requests.Load() + b.requests.Load()
			for range requests {
				req, err := http.NewRequest(http.MethodPut, "http://greeter/", nil) // net/http does not repeat a PUT
				if err != nil {
					n.Fatal(err)
				}
				read(client.Do(req))
			}
			return a.requests.Load() + b.requests.Load() - before
		}
		fails.Store(true)
		if got := sent(100); got != 107 { // each lost attempt takes one, also the last of each request
			n.Errorf("100 requests were sent %d times", got)
		}
		fails.Store(false)
		sent(30)
		fails.Store(true)
		if got := sent(10); got != 12 {
			n.Errorf("after responses, 10 requests were sent %d times", got)
		}
	})
}

func TestTransport_ContextEndsRetries(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.hang(true)
		client := &http.Client{Transport: n.transport(nil), Timeout: 7 * time.Second}
		began := time.Now()
		_, err := n.ask(client, passing("a:1", "b:1", "c:1")...)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 7*time.Second {
			n.Errorf("after %v the request ends with %v", took, err)
		}
	})
}

func TestTransport_ResponseTimeoutIsNotRepeated(t *testing.T) {
	inANetwork(t, func(n *network) {
		slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		a, b := n.listen("a:1", slow), n.listen("b:1", slow)
		tr := n.transport(nil)
		tr.Base.ResponseHeaderTimeout = time.Second
		_, err := n.ask(&http.Client{Transport: tr}, passing("a:1", "b:1")...)
		if sent := a.requests.Load() + b.requests.Load(); err == nil || sent != 1 {
			n.Errorf("the request was sent %d times and ends with %v", sent, err)
		}
	})
}

// A body that was kept for another attempt is read once, and closed once, also if the request fails.
func TestTransport_ClosesEachBodyOnce(t *testing.T) {
	inANetwork(t, func(n *network) {
		handlers := map[string]http.HandlerFunc{
			"reads":   echo("a"),
			"ignores": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
			"drops":   dropConnection,
			"rejects": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				http.Error(w, "no", http.StatusRequestEntityTooLarge)
			},
		}
		for name, h := range handlers {
			s := n.listen("b:1", h)
			client := n.connected(&httpx.Transport{PanicThreshold: 1}, passing("a:1", "b:1")...)
			for _, size := range []int{1, 1 << 20} {
				for range 3 {
					b := newBody(strings.Repeat("x", size))
					req, err := http.NewRequest(http.MethodPost, "http://greeter/", b)
					if err != nil {
						n.Fatal(err)
					}
					resp, err := client.Do(req)
					if err == nil {
						io.Copy(io.Discard, bufio.NewReader(resp.Body))
						resp.Body.Close()
					}
					synctest.Wait()
					if got := b.closed.Load(); got < 1 {
						n.Errorf("a server that %s: the body was closed %d times", name, got)
					}
				}
			}
			client.Transport.(*httpx.Transport).Close()
			n.crash(s)
		}
	})
}

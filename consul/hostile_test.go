package consul

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/consul/internal/codectest"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// hostileConsul is an agent that answers all calls as Consul does, or all calls as Consul never does.
type hostileConsul struct {
	url string

	mu       sync.Mutex
	hostile  http.HandlerFunc // answers all calls; nil while the agent answers as Consul does
	index    int
	body     string
	changed  chan struct{} // closed, and replaced, with each change
	requests int           // while it was hostile
	reads    int           // that did not wait, since it answers as Consul does
}

func startHostile(t *testing.T) *hostileConsul {
	t.Helper()
	h := &hostileConsul{changed: make(chan struct{})}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

// set makes it answer as Consul does, with these instances.
func (h *hostileConsul) set(ids ...string) {
	var entries []string
	for _, id := range ids {
		entries = append(entries, codectest.Entry(id, ""))
	}
	h.change(func() { h.index, h.body, h.hostile = h.index+10, "["+strings.Join(entries, ",")+"]", nil; h.reads = 0 })
}

// turn makes f answer all calls, also waiting ones.
func (h *hostileConsul) turn(f http.HandlerFunc) { h.change(func() { h.hostile, h.requests = f, 0 }) }

func (h *hostileConsul) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *hostileConsul) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.requests
}

// wellReads returns the number of reads since the agent answers as Consul does. It is one, unless this machine is so busy that an answer
// takes longer than the Timeout of hostileConfig.
func (h *hostileConsul) wellReads() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads
}

// ServeHTTP implements [http.Handler].
func (h *hostileConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	if h.hostile == nil && r.URL.Query().Get("index") == fmt.Sprint(h.index) {
		changed := h.changed
		h.mu.Unlock()
		wait := time.NewTimer(time.Second)
		defer wait.Stop()
		select {
		case <-changed:
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
		h.mu.Lock()
	}
	hostile, index, body := h.hostile, h.index, h.body
	switch {
	case hostile != nil:
		h.requests++
	case strings.HasPrefix(r.URL.Path, "/v1/health/") && !isBlocking(r):
		h.reads++
	}
	h.mu.Unlock()
	switch {
	case hostile != nil:
		_, _ = io.Copy(io.Discard, r.Body) // the server does not notice before that the client has left
		hostile(w, r)
	case r.URL.Path == "/v1/status/leader":
		fmt.Fprint(w, `"127.0.0.1:8300"`)
	default:
		w.Header().Set("X-Consul-Index", fmt.Sprint(index))
		w.Header().Set("X-Consul-LastContact", "0")
		fmt.Fprint(w, body)
	}
}

// says answers with a status, headers in pairs and a body.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// pours answers with a body that is made anew.
func pours(status int, body func() io.Reader) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "1000")
		w.WriteHeader(status)
		_, _ = io.Copy(w, body())
	}
}

// raw writes to the connection itself, and ends it.
func raw(parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(watchtest.Timeout))
		for _, p := range parts {
			_, _ = io.WriteString(c, p)
		}
	}
}

// endlessly writes head and then text for ever to the connection itself.
func endlessly(head, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(watchtest.Timeout))
		_, _ = io.Copy(c, &repeated{head: head, text: text, n: -1})
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// hostileAnswers are errors, and answers that Consul never gives. A set cannot be read from any of them.
func hostileAnswers() map[string]http.HandlerFunc {
	const ix = "X-Consul-Index"
	good := "[" + codectest.Entry("x", "") + "]"
	trickle := func(head string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(ix, "1000")
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for text := head; ; text = " " {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}
	}
	forever := func(head, text string) func() io.Reader {
		return func() io.Reader { return &repeated{head: head, text: text, n: -1} }
	}
	return map[string]http.HandlerFunc{
		"500":                               says(500, "out of order"),
		"500 without a leader":              says(500, "rpc error making call: No cluster leader"),
		"500 with a long line":              says(500, strings.Repeat("\x1b[2J", 10_000)),
		"endless 500":                       pours(500, forever("", "x")),
		"502 page":                          says(502, "<html>bad gateway</html>", "Content-Type", "text/html"),
		"503":                               says(503, ""),
		"504":                               says(504, "gateway timeout"),
		"429":                               says(429, "RPC rate limit exceeded", "Retry-After", "0"),
		"400 of a proxy":                    says(400, "Client sent an HTTP request to an HTTPS server.\n"),
		"400 of Consul":                     says(400, "Invalid index", ix, "1000"),
		"413 page":                          says(413, "<html>too large</html>"),
		"401":                               says(401, "who are you", "WWW-Authenticate", "Basic"),
		"403":                               says(403, "Permission denied"),
		"404":                               says(404, "default backend - 404"),
		"204":                               says(204, ""),
		"206":                               says(206, good, ix, "1000"),
		"302":                               says(302, "", "Location", "http://127.0.0.1:1/"),
		"302 to itself":                     says(302, "", "Location", "/v1/health/service/s"),
		"304":                               says(304, ""),
		"200 page":                          says(200, "<html>sign in</html>", "Content-Type", "text/html", ix, "1000"),
		"no body":                           says(200, "", ix, "1000"),
		"null":                              says(200, "null", ix, "1000"),
		"an object":                         says(200, "{}", ix, "1000"),
		"a string":                          says(200, `"[]"`, ix, "1000"),
		"a list of null":                    says(200, "[null,null]", ix, "1000"),
		"a list of lists":                   says(200, "[[],[]]", ix, "1000"),
		"half a list":                       says(200, good[:len(good)-2], ix, "1000"),
		"two lists":                         says(200, good+good, ix, "1000"),
		"bytes":                             says(200, "\x00\xff\xfe\x01[", ix, "1000"),
		"a byte order sign before the list": says(200, "\ufeff"+good, ix, "1000"),
		"depth":                             says(200, strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), ix, "1000"),
		"depth of an entry":                 says(200, "["+strings.Repeat(`{"a":`, 20_000)+"1"+strings.Repeat("}", 20_000)+"]", ix, "1000"),
		"no index":                          says(200, good),
		"index 0":                           says(200, good, ix, "0"),
		"index 1":                           says(200, "[]", ix, "1"),
		"index of letters":                  says(200, good, ix, "many"),
		"index below 0":                     says(200, good, ix, "-5"),
		"index above all":                   says(200, good, ix, "99999999999999999999999"),
		"cut by ACLs":                       says(200, "[]", ix, "1000", "X-Consul-Results-Filtered-By-ACLs", "true"),
		"no gzip":                           says(200, good, ix, "1000", "Content-Encoding", "gzip"),
		"half of gzip":                      says(200, zipped(good)[:20], ix, "1000", "Content-Encoding", "gzip"),
		"gzip of gzip":                      says(200, zipped(zipped(good)), ix, "1000", "Content-Encoding", "gzip"),
		"a body that is cut":                raw("HTTP/1.1 200 OK\r\nX-Consul-Index: 1000\r\nContent-Length: 9000\r\n\r\n[{"),
		"a chunk that is none":              raw("HTTP/1.1 200 OK\r\nX-Consul-Index: 1000\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
		"a chunk without an end":            raw("HTTP/1.1 200 OK\r\nX-Consul-Index: 1000\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[]"),
		"a length below 0":                  raw("HTTP/1.1 200 OK\r\nX-Consul-Index: 1000\r\nContent-Length: -1\r\n\r\n[]"),
		"another protocol":                  raw("SSH-2.0-OpenSSH_9.6\r\n"),
		"a status that is none":             raw("HTTP/1.1 \x1b[2J what\r\n\r\n"),
		"no answer":                         raw(),
		"endless header":                    endlessly("HTTP/1.1 200 OK\r\n", "X-Consul-Index: 1000\r\n"),
		"endless header line":               endlessly("HTTP/1.1 200 OK\r\nX: ", "x"),
		"endless informal answers":          endlessly("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
		"endless entries":                   pours(200, forever("["+codectest.Entry("a", ""), ","+codectest.Entry("a", ""))),
		"an endless tag":                    pours(200, forever(`[{"Service":{"Tags":["`, "a")),
		"endless space":                     pours(200, forever("[", " ")),
		"an answer that trickles":           trickle("["),
		"a first byte, and no more": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(ix, "1000")
			_, _ = io.WriteString(w, "[")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"an answer that never comes": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
}

// maxWellReads bounds the reads until a watch has recovered, once the agent answers well. One is enough unless this machine is so busy
// that a read exceeds the Timeout of hostileConfig.
const maxWellReads = 5

// hostileConfig has short timeouts, since some of the answers never end.
func hostileConfig(url string) Config {
	return Config{Address: url, Wait: minWait, Timeout: 2 * time.Second}
}

// While the agent gives such answers, a watch yields its last good set beside an error and reads again from time to time. It recovers
// soon after the agent does.
func TestWatch_SurvivesHostileAnswers(t *testing.T) {
	most := heapDuring(func() {
		t.Run("each", func(t *testing.T) {
			for name, f := range hostileAnswers() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					testHostile(t, f)
				})
			}
		})
	})
	t.Logf("%d MiB at the most, with all of them at once", most>>20)
	if most > mostMemory {
		t.Errorf("there were %d MiB in use", most>>20)
	}
}

func testHostile(t *testing.T, f http.HandlerFunc) {
	agent := startHostile(t)
	agent.set("a", "b")
	w := watchtest.Watch(t, open(t, hostileConfig(agent.url)), registry.Query{Service: "s"})
	w.Until("the set", watchtest.Healthy(2))
	agent.turn(f)
	began := time.Now()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return p.Err != nil })
	perSecond := float64(agent.count()) / max(1, time.Since(began).Seconds())
	if perSecond > 30 {
		t.Errorf("there were %.0f requests a second", perSecond)
	}
	watchtest.Eventually(t, "it asked again", func() bool { return agent.count() >= 3 }) // so that it waits longer between attempts
	agent.set("a", "b", "c")
	w.Until("the next set", watchtest.Healthy(3))
	if n := agent.wellReads(); n > maxWellReads {
		t.Errorf("after the agent was well, it took %d reads", n)
	}
	known := false
	for i, p := range w.All() {
		known = known || len(p.Set) == 2
		if known && len(p.Set) < 2 {
			t.Errorf("pair %d is %v, which lacks the last good set", i, p)
		}
		if p.Err != nil && (strings.ContainsAny(p.Err.Error(), "\x1b\n\r") || len(p.Err.Error()) > 3*scrub.MaxLine) {
			t.Errorf("pair %d has %q", i, p.Err)
		}
	}
}

// A watch pauses between its reads for as long as they are refused.
func TestWatch_BacksOffInAStormOfRefusals(t *testing.T) {
	for _, status := range []int{500, 503, 429, 400, 403, 302} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			agent := startHostile(t)
			agent.set("a")
			r := open(t, hostileConfig(agent.url))
			w := watchtest.Watch(t, r, registry.Query{Service: "s"})
			w.Until("the set", watchtest.Healthy(1))
			agent.turn(says(status, "busy", "Location", "/v1/health/service/s"))
			rate := watchtest.Rate(t, "several requests", time.Now(), 11, agent.count)
			t.Logf("%.1f requests a second", rate)
			if rate > 6 {
				t.Errorf("%.1f requests a second", rate)
			}
			agent.set("a", "b")
			w.Until("the next set", watchtest.Healthy(2))
		})
	}
}

// After any answer of the agent, all other calls end too, and their errors are of a known kind.
func TestDriver_SurvivesHostileAnswers(t *testing.T) {
	for name, f := range hostileAnswers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := startHostile(t)
			agent.turn(f)
			c := hostileConfig(agent.url)
			c.Timeout = 500 * time.Millisecond
			d, err := newDriver(c)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ctx := watchtest.Context(t)
			l := bareLease(d, "s:a", codec.Owner{})
			for what, call := range map[string]func() error{
				"Services":  func() error { _, err := d.Services(ctx); return err },
				"Register":  func() error { _, err := d.Register(ctx, minimal(), nil); return err },
				"read":      func() error { _, _, err := l.read(ctx); return err },
				"heartbeat": func() error { return l.Renew(ctx) },
				"Next":      func() error { _, err := d.Watch(registry.Query{Service: "s"}).Next(ctx); return err },
			} {
				err := call()
				if err == nil {
					if what == "Next" {
						t.Error("Next accepts the answer")
					}
					continue
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s does not end by itself: %v", what, err)
				}
				if !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrInvalid) && !errors.Is(err, registry.ErrReplaced) {
					t.Errorf("%s returns %v, which is of no known kind", what, err)
				}
				if s := err.Error(); strings.ContainsAny(s, "\x1b\n\r") || len(s) > 3*scrub.MaxLine {
					t.Errorf("%s returns %q", what, s)
				}
			}
		})
	}
}

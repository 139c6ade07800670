package serve_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// connect opens a connection to a server.
func connect(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// request sends a GET over a connection, and returns the answer.
func request(t *testing.T, c net.Conn, r *bufio.Reader, headers ...string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: test\r\n"+strings.Join(headers, "")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
	}
	return res
}

func TestServe_AsksHTTP1ClientsToCloseWhileItDrains(t *testing.T) {
	store := newStore(t)
	r, srv := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: time.Hour}, hello)
	registered(t, store)
	idle, idleReader := connect(t, r.address)
	if res := request(t, idle, idleReader); res.Close {
		t.Error("before it leaves, it asks to close the connection")
	}
	busy, busyReader := connect(t, r.address)
	if res := request(t, busy, busyReader); res.Close {
		t.Error("before it leaves, it asks to close the connection")
	}
	r.leave()
	watchtest.Eventually(t, "it to ask to close the connection", func() bool { return request(t, busy, busyReader).Close })
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("it asked while the registry has %v", set)
	}
	// A new connection is still served, and so is the other one.
	again, againReader := connect(t, r.address)
	if res := request(t, again, againReader); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("a new connection got %s and Close %v", res.Status, res.Close)
	}
	if res := request(t, idle, idleReader); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("a connection that was idle got %s and Close %v", res.Status, res.Close)
	}
	srv.Close()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

// A client that has not heard that the server leaves moves its connections one by one. It loses no request, not even a POST whose body
// cannot be sent again.
func TestServe_LosesNoRequestOfSlowClientWhileItDrains(t *testing.T) {
	store := newStore(t)
	r, srv := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: time.Hour}, hello)
	registered(t, store)
	tr := &http.Transport{MaxIdleConnsPerHost: 10}
	defer tr.CloseIdleConnections()
	var asked atomic.Int64 // responses that ask to close the connection
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for asked.Load() < 200 {
				body := io.NopCloser(strings.NewReader("a body that cannot be sent again"))
				req, err := http.NewRequestWithContext(watchtest.Context(t), http.MethodPost, "http://"+r.address, body)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Error(err)
				}
				res.Body.Close()
				if res.Close {
					asked.Add(1)
				}
			}
		})
	}
	r.leave()
	clients.Wait()
	srv.Close()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_ClosesIdleConnectionsWhenItHasDrained(t *testing.T) {
	store := newStore(t)
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: 20 * time.Millisecond, StopTimeout: time.Hour}, hello)
	registered(t, store)
	c, reader := connect(t, r.address)
	request(t, c, reader)
	r.leave()
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the connection ended with %v", err)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_FinishesHTTP2RequestsAfterGOAWAY(t *testing.T) {
	for name, p := range protocols(t) {
		if p.major != 2 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			entered, release := make(chan struct{}), make(chan struct{})
			srv := p.server()
			srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					close(entered)
					<-release
				}
				io.WriteString(w, "done")
			})
			r := start(t, &serve.Service{Registrar: store, DrainDelay: -1, StopTimeout: time.Hour}, srv, p.listen(t))
			registered(t, store)
			tr := p.newBase()
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			answer := make(chan string, 1)
			go func() {
				_, body := get(t, client, p.scheme+"://"+r.address+"/slow")
				answer <- body
			}()
			<-entered
			r.leave()
			// After the GOAWAY the client needs another connection, and there is none to be had.
			watchtest.Eventually(t, "the connection to take no new requests", func() bool {
				res, err := client.Get(p.scheme + "://" + r.address)
				if err == nil {
					res.Body.Close()
				}
				return err != nil
			})
			r.serves(t)
			close(release)
			if got := <-answer; got != "done" {
				t.Errorf("the request in progress got %q", got)
			}
			if err := r.ends(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// A WebSocket is a hijacked connection, which http.Server.Shutdown does not wait for.
func TestServe_WaitsForHijackedConnections(t *testing.T) {
	store := newStore(t)
	s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, StopTimeout: time.Hour}
	told, release := make(chan struct{}), make(chan struct{})
	r, _ := startHTTP(t, s, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n")
		<-s.Leaving()
		close(told)
		<-release
		io.WriteString(c, "bye")
	}))
	registered(t, store)
	c, reader := connect(t, r.address)
	res := request(t, c, reader, "Upgrade: test\r\n", "Connection: Upgrade\r\n")
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Connection") != "Upgrade" {
		t.Errorf("it answers %s, %v", res.Status, res.Header)
	}
	r.leave()
	<-told
	watchtest.Eventually(t, "it to stop listening", func() bool { return refusesConnections(r.address) })
	r.serves(t)
	close(release)
	if rest, err := io.ReadAll(reader); string(rest) != "bye" || err != nil {
		t.Errorf("the connection ended with %q, %v", rest, err)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_CutsWaitForHijackedConnections(t *testing.T) {
	store := newStore(t)
	release := make(chan struct{})
	returned := make(chan struct{})
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: -1, StopTimeout: 20 * time.Millisecond},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(returned)
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n")
			<-release
		}))
	registered(t, store)
	c, reader := connect(t, r.address)
	request(t, c, reader, "Upgrade: test\r\n", "Connection: Upgrade\r\n")
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	close(release)
	<-returned
}

func TestService_LeavingEndsServerSentEvents(t *testing.T) {
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, StopTimeout: time.Hour}
			srv := p.server()
			srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: first\n\n")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				select {
				case <-s.Leaving():
					io.WriteString(w, "data: last\n\n")
				case <-r.Context().Done():
				}
			})
			r := start(t, s, srv, p.listen(t))
			registered(t, store)
			tr := p.newBase()
			defer tr.CloseIdleConnections()
			req, err := http.NewRequestWithContext(watchtest.Context(t), http.MethodGet, p.scheme+"://"+r.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadFull(res.Body, make([]byte, len("data: first\n\n"))); err != nil {
				t.Fatal(err)
			}
			r.leave()
			if rest, err := io.ReadAll(res.Body); string(rest) != "data: last\n\n" || err != nil {
				t.Errorf("the events ended with %q, %v", rest, err)
			}
			if err := r.ends(t); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServe_ServesDefaultMuxWithoutHandler(t *testing.T) {
	store := newStore(t)
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: -1}, nil)
	registered(t, store)
	if code, _ := get(t, newClient(t), "http://"+r.address+"/nothing"); code != http.StatusNotFound {
		t.Errorf("it answers %d", code)
	}
}

func TestServe_WaitsForShutdownOfCaller(t *testing.T) {
	store := newStore(t)
	entered, release := make(chan struct{}), make(chan struct{})
	r, srv := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: time.Hour, StopTimeout: time.Hour},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { close(entered); <-release; io.WriteString(w, "done") }))
	registered(t, store)
	answer := make(chan string, 1)
	client := newClient(t)
	go func() {
		_, body := get(t, client, "http://"+r.address)
		answer <- body
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	deregistered(t, store)
	r.serves(t)
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request in progress got %q", got)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

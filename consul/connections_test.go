package consul

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// An agent that takes its time has everything that a process does at once in flight, and sees no more connections than it takes.
func TestAProcessKeepsToItsConnections(t *testing.T) {
	clearEnvironment(t)
	var mu sync.Mutex
	open, most := 0, 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(10 * time.Millisecond)
		w.Header().Set("X-Consul-Index", "10")
		w.Header().Set("X-Consul-ContentHash", "h")
		switch {
		case strings.Contains(r.URL.Path, "/agent/"):
			fmt.Fprint(w, "{}")
		case strings.HasSuffix(r.URL.Path, "/services"):
			fmt.Fprint(w, `{"s":[]}`)
		default:
			fmt.Fprint(w, set("10", "a").body)
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			open++
			most = max(most, open)
		case http.StateClosed:
			open--
		}
	}
	srv.Start()
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var work sync.WaitGroup
	for i := range 300 {
		l := &lease{d: d, serviceID: fmt.Sprint("s:", i), beating: make(chan struct{}, 1)}
		src := d.follow(registry.Query{Service: "s"})
		for _, call := range []func() error{
			func() error { return l.repeat(t.Context(), patience) },
			func() error { _, _, err := l.read(t.Context()); return err },
			func() error { _, _, _, err := l.await(t.Context(), "h"); return err },
			func() error { _, err := src.Next(t.Context()); return err },
			func() error { _, err := d.Services(t.Context()); return err },
		} {
			work.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	t.Logf("%d connections at once", most)
	if most > 200 {
		t.Errorf("there were %d connections at once", most)
	}
}

// A read of the guard that the agent refuses says nothing of the entry, as long as heartbeats would tell that it has gone.
func TestARefusedGuard(t *testing.T) {
	clearEnvironment(t)
	of := mark{client: "c", lease: 1, turn: 1}
	codes := []int{http.StatusTooManyRequests, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests, http.StatusNotFound}
	for kinds, end := range map[string]int{"ttl": http.StatusNotFound, "tcp": http.StatusTooManyRequests} {
		var reads atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-ContentHash", "h")
			w.WriteHeader(codes[min(int(reads.Add(1)), len(codes))-1])
			fmt.Fprintf(w, `{"Meta":{%q:%q}}`, metaOwner, of)
		}))
		defer srv.Close()
		d, err := newDriver(Config{Address: srv.URL, Checks: Checks{Kinds: kinds}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		l := &lease{d: d, serviceID: "s:a", mark: of}
		l.turn.Store(of.turn)
		err = l.guard(t.Context())
		var e *callError
		if !errors.As(err, &e) || e.code != end || end == http.StatusNotFound && int(reads.Load()) != len(codes) {
			t.Errorf("with %s, after %d reads it ended with %v", kinds, reads.Load(), err)
		}
	}
}

// One heartbeat that the agent refuses is made up for by the next. Two in a row would end in a missed TTL.
func TestARefusedHeartbeat(t *testing.T) {
	clearEnvironment(t)
	codes := []int{http.StatusTooManyRequests, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests}
	var beats atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(codes[min(int(beats.Add(1)), len(codes))-1])
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.settings.TTL = 3 * 2 * time.Second
	l := &lease{d: d, serviceID: "s:a", beating: make(chan struct{}, 1)}
	if err := l.heartbeats(t.Context()); !isRefused(err) || int(beats.Load()) != len(codes) {
		t.Errorf("after %d heartbeats it ended with %v", beats.Load(), err)
	}
}

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

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// The agent is slow, so all calls of a process are in flight at once. It still sees no more connections than it accepts.
func TestDriver_LimitsItsConnections(t *testing.T) {
	var mu sync.Mutex
	open, most := 0, 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sleep.For(r.Context(), 10*time.Millisecond)
		w.Header().Set("X-Consul-Index", "10")
		w.Header().Set("X-Consul-ContentHash", "h")
		switch {
		case strings.Contains(r.URL.Path, "/agent/"):
			fmt.Fprint(w, `{"ID":"s:a"}`)
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
		l := bareLease(d, fmt.Sprint("s:", i), codec.Owner{})
		src := d.newSource(registry.Query{Service: "s"})
		for _, call := range []func() error{
			func() error { return l.Renew(t.Context()) },
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

// If the agent refuses a read of the entry watch, the entry counts as unchanged, as long as heartbeats would notice its loss.
func TestWatchEntry_SurvivesARefusal(t *testing.T) {
	of := codec.Owner{Client: "c", Lease: 1, Seq: 1}
	codes := []int{http.StatusTooManyRequests, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests, http.StatusNotFound}
	for kind, end := range map[string]int{"ttl": http.StatusNotFound, "tcp": http.StatusTooManyRequests} {
		var reads atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-ContentHash", "h")
			code := codes[min(int(reads.Add(1)), len(codes))-1]
			w.WriteHeader(code)
			if code == http.StatusNotFound {
				fmt.Fprint(w, "unknown service ID: s:a")
				return
			}
			fmt.Fprintf(w, `{"Meta":{%q:%q}}`, codec.MetaOwner, of)
		}))
		defer srv.Close()
		d, err := newDriver(Config{Address: srv.URL, Checks: Checks{Kinds: []string{kind}}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		l := bareLease(d, "s:a", of)
		err = l.watchEntry(t.Context())
		var e *agent.Error
		if !errors.As(err, &e) || e.Code != end || end == http.StatusNotFound && int(reads.Load()) != len(codes) {
			t.Errorf("with %s, after %d reads it ended with %v", kind, reads.Load(), err)
		}
	}
}

// One refused heartbeat is harmless, since the next one is in time. Two refused heartbeats in a row end the lease, before the TTL runs out.
func TestRenew_SurvivesOneRefusal(t *testing.T) {
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
	l := bareLease(d, "s:a", codec.Owner{})
	for i := range codes {
		err := l.Renew(t.Context())
		if last := i == len(codes)-1; last != agent.IsRefused(err) || !last && err != nil {
			t.Errorf("heartbeat %d returned %v", i, err)
		}
	}
}

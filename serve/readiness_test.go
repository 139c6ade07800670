package serve_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

func TestService_ServeHTTPSaysWhetherItIsReady(t *testing.T) {
	store := newStore(t)
	store.Fail(registry.ErrUnavailable) // whether it is registered does not matter
	s := &serve.Service{
		Registrar: store, Instance: registry.Instance{Service: "orders"}, DrainDelay: time.Hour, DeregisterTimeout: time.Millisecond,
		Services: []registry.Instance{{Service: "bills"}, {Service: "old", Status: registry.Maintenance}},
	}
	says := func(when, query string, code int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready"+query, nil))
		if w.Code != code || w.Body.String() != text+"\n" {
			t.Errorf("%s it answers %d %q, want %d %q", when, w.Code, w.Body, code, text)
		}
		if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("the answer is %s", got)
		}
	}
	says("before Serve", "", 503, "not serving yet")
	s.NotReady()
	mux := http.NewServeMux()
	mux.Handle("/ready", s)
	r, srv := startHTTP(t, s, mux)
	client := newClient(t)
	if code, body := get(t, client, "http://"+r.address+"/ready"); code != 503 ||
		body != "not ready (orders: not ready; bills: not ready; old: not ready)\n" {
		t.Errorf("through its server it answers %d %s", code, body)
	}
	s.Ready("orders")
	says("with one ready", "", 200, "ready (bills: not ready; old: not ready)")
	s.Ready()
	says("ready", "", 200, "ready (old: the status of its Instance is maintenance)")
	says("ready", "?service=orders", 200, "ready")
	says("ready", "?service=old", 503, "not ready (old: the status of its Instance is maintenance)")
	says("ready", "?service=none", 404, "no service of that name")
	s.NotReady("orders")
	says("with one not ready", "?service=orders", 503, "not ready (orders: not ready)")

	r.leave()
	watchtest.Receive(t, "it to leave", s.Leaving())
	watchtest.Eventually(t, "it to say that it leaves", func() bool {
		code, body := get(t, client, "http://"+r.address+"/ready")
		return code == 503 && body == "leaving\n"
	})
	says("leaving", "?service=orders", 503, "leaving")
	srv.Close()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	says("after the end", "", 503, "stopped")
}

func TestService_ServeHTTPSaysThatItDrains(t *testing.T) {
	s := &serve.Service{Registrar: newStore(t), Instance: registry.Instance{Service: service}, DrainDelay: -1}
	r, _ := startHTTP(t, s, s)
	client := newClient(t)
	if code, body := get(t, client, "http://"+r.address); code != 200 || body != "ready\n" {
		t.Errorf("it answers %d %s", code, body)
	}
	if err := s.Drain(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, client, "http://"+r.address); code != 503 || body != "leaving\n" {
		t.Errorf("drained, it answers %d %s", code, body)
	}
}

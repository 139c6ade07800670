package consul

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// If a server lags behind by more than the bound, its answer is dropped and the leader is asked, by a read that does not wait.
func TestMaxStale_ReadsAgainIfTooOld(t *testing.T) {
	for _, c := range []struct {
		contact string // in milliseconds, of every answer but the leader's
		want    string
		asked   []string
	}{
		{"1000", "old old", []string{"stale ", "stale 10"}},
		{"1001", "true true", []string{"stale ", "leader ", "stale 20", "leader "}},
		{"", "true true", []string{"stale ", "leader ", "stale 20", "leader "}},
		{"soon", "true true", []string{"stale ", "leader ", "stale 20", "leader "}},
	} {
		var asked []string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Has("index") != q.Has("merge-central-config") {
				t.Errorf("the stream would answer %s", r.URL)
			}
			by, a := "leader", set(fmt.Sprint(20+len(asked)), "true")
			if q.Has("stale") {
				by, a = "stale", set(fmt.Sprint(10*(1+len(asked))), "old")
				w.Header().Set("X-Consul-LastContact", c.contact)
			} else {
				a.index = "20"
			}
			if len(asked) > 2 {
				a.index = "21"
			}
			asked = append(asked, by+" "+q.Get("index"))
			w.Header().Set("X-Consul-Index", a.index)
			fmt.Fprint(w, a.body)
		}))
		d, err := newDriver(Config{Address: srv.URL, MaxStale: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		src := d.Watch(registry.Query{Service: "s"})
		if got := next(t, src) + " " + next(t, src); got != c.want || !slices.Equal(asked, c.asked) {
			t.Errorf("with a contact of %q ms it is %q, asked %q; want %q, %q", c.contact, got, asked, c.want, c.asked)
		}
		d.Close()
		srv.Close()
	}
}

// The stream of an agent has no consistent reads, and does not say how old its data is.
func TestNext_ReadsThatTheStreamMustNotAnswer(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	q := registry.Query{Service: "consul"}
	for name, c := range map[string]Config{"": {}, "consistent": {Consistent: true}, "bound": {MaxStale: time.Minute}} {
		c.Address = agent.Addr()
		backend := make(chan string, 1)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := http.Get("http://" + agent.Addr() + r.URL.RequestURI())
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if r.URL.Query().Has("index") {
				backend <- resp.Header.Get("X-Consul-Query-Backend")
			}
			for k := range resp.Header {
				if k != "Content-Length" && k != "Content-Encoding" {
					w.Header().Set(k, resp.Header.Get(k))
				}
			}
			if _, err := io.Copy(w, resp.Body); err != nil {
				t.Error(err)
			}
		}))
		c.Address, c.Wait = proxy.URL, minWait
		d, err := newDriver(c)
		if err != nil {
			t.Fatal(err)
		}
		src := d.Watch(q)
		next(t, src)
		next(t, src)
		want := map[bool]string{true: "streaming", false: "blocking-query"}[name == ""]
		if got := <-backend; got != want {
			t.Errorf("%s: the answer is from %s", name, got)
		}
		d.Close()
		proxy.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}

package httpx_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// statesOf returns the states of the clients of d.
func statesOf(d any) (all []clientstate.State) {
	for _, s := range clientstate.All() {
		if s.Discovery == d {
			all = append(all, s)
		}
	}
	return all
}

func TestTransport_ShowsItsState(t *testing.T) {
	inANetwork(t, func(n *network) {
		shows := func(endpoints int, panicking bool, reason string) {
			n.Helper()
			synctest.Wait()
			all := statesOf(n.script)
			if len(all) != 1 {
				n.Fatalf("there are %d states", len(all))
			}
			s := all[0]
			if s.Endpoints != endpoints || s.Panicking != panicking || !strings.Contains(s.Error, reason) || (reason == "") != (s.Error == "") {
				n.Errorf("got %+v, want %d endpoints, panicking %v, error %q", s, endpoints, panicking, reason)
			}
			if s.Kind != clientstate.HTTP || s.Target != "http://greeter" || s.Service != service || s.Registry != "a script" || s.Policy != "p2c" {
				n.Errorf("got %+v", s)
			}
		}
		for _, a := range []string{"a:1", "b:1", "c:1"} {
			n.listen(a, nil)
		}
		client := n.connected(&httpx.Transport{Policy: "p2c"}, passing("a:1", "b:1", "c:1")...)
		shows(3, false, "")
		n.says(nil, append(passing("a:1"), critical("b:1", "c:1")...)...)
		shows(3, true, "")
		n.says(errors.New("no leader"), passing("a:1", "b:1")...)
		shows(2, false, "no leader")
		n.says(nil)
		shows(2, false, "are used for up to 30s")
		time.Sleep(emptyGrace / 2)
		count(client, 1) // or the Transport would let the service go
		time.Sleep(emptyGrace / 2)
		shows(0, false, "no passing instance is registered")
		n.says(nil, passing("a:1")...)
		shows(1, false, "")
		client.Transport.(*httpx.Transport).Close()
		if all := statesOf(n.script); len(all) != 0 {
			n.Errorf("after Close: %+v", all)
		}
	})
}

func TestTransport_IsOnTheStatusPage(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	watchtest.Register(t, reg, registry.Instance{Service: service, Address: server.Listener.Addr().String()})
	client := httpx.NewClient(reg)
	defer client.Transport.(*httpx.Transport).Close()
	if _, err := get(client); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	statuspage.Handler(statuspage.Config{}, reg.Registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, text := range []string{"http://greeter", "round_robin"} {
		if !strings.Contains(w.Body.String(), text) {
			t.Errorf("the page lacks %q:\n%s", text, w.Body)
		}
	}
}

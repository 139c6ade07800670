package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Control characters are quoted wherever an error has a text of another program.
func TestErrors_QuoteControlCharacters(t *testing.T) {
	const forged = "a\x1b[2Jb\rc\x00d\u202ee\u009bf\x7fg\u2028h"
	for name, a := range map[string]answer{
		"500":                {status: 500, body: forged},
		"403":                {status: 403, body: forged},
		"400":                {status: 400, body: forged},
		"not JSON":           {index: "10", body: forged},
		"not JSON within":    {index: "10", body: `[{"a":` + forged + `}]`},
		"index":              {index: "\t" + "9\u009b", body: "[]"},
		"name in other case": {index: "10", body: `[{"Service":{"ID":"a","Service":"S","Port":80},"Node":{"Address":"h"}}]`},
	} {
		src, _ := scripted(t, Config{}, registry.Query{}, a)
		_, err := src.Next(t.Context())
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\r\x00\u202e\u009b\x7f\u2028\n") {
			t.Errorf("%s: the error is %q", name, err)
		}
		if strings.Contains(name, "0") && !strings.Contains(err.Error(), `a\x1b[2Jb c\x00d\u202ee\u009bf\x7fg h`) {
			t.Errorf("%s: the error is %q, which does not show the answer", name, err)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://h\u202e.example/\x1b", http.StatusFound)
	}))
	defer srv.Close()
	if _, err := open(t, Config{Address: srv.URL}).Lookup(t.Context(), registry.Query{Service: "s"}); err == nil || strings.ContainsAny(err.Error(), "\x1b\u202e") {
		t.Errorf("for a redirect the error is %q", err)
	}
}

// Failures with one cause have the same text, even if they happened in different ways.
func TestErrors_AreEqualForOneCause(t *testing.T) {
	d, err := newDriver(Config{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, same := range [][]error{
		{api.StatusError{Code: 500, Body: "No cluster leader"}, api.StatusError{Code: 500, Body: "rpc error making call: No cluster leader"},
			api.StatusError{Code: 500, Body: "rpc error making call: rpc error making call: No cluster leader"}},
		{errors.New("read tcp 10.0.0.1:53211->10.0.0.2:8500: connection reset by peer"), errors.New("read tcp 10.0.0.1:1044->10.0.0.2:8500: connection reset by peer")},
	} {
		var texts []string
		for _, err := range same {
			texts = append(texts, d.agent.Classify(t.Context(), "read", time.Second, err).Error())
		}
		if texts = slices.Compact(texts); len(texts) != 1 {
			t.Errorf("there are %q", texts)
		}
	}
}

// Consul's own 400 says that the request is wrong. A 400 by a proxy in front of it does not.
func TestClassify_400IsInvalidOnlyFromConsul(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge} {
		for body, index := range map[string]string{"Invalid index": "9", "Client sent an HTTP request to an HTTPS server.\n": "", "Request too large": "", "": "", "<html>no</html>": "9"} {
			src, _ := scripted(t, Config{}, registry.Query{}, answer{status: code, body: body, index: index})
			_, err := src.Next(t.Context())
			want := registry.ErrUnavailable
			if body == "Invalid index" {
				want = registry.ErrInvalid
			}
			if !errors.Is(err, want) {
				t.Errorf("%d %q: the error is %v, want %v", code, body, err, want)
			}
		}
	}
	agent := testbed.StartConsul(t)
	if _, err := open(t, Config{Address: agent.Addr(), Namespace: "x"}).Lookup(t.Context(), registry.Query{Service: "s"}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("Consul itself: %v", err)
	}
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	_, err := open(t, Config{Address: strings.TrimPrefix(srv.URL, "https://")}).Lookup(t.Context(), registry.Query{Service: "s"})
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "the port of the address is for https, and the scheme is http") {
		t.Errorf("an https port: %v", err)
	}
}

// If the name of a query differs from the service by upper and lower case only, nothing is found and the error says why.
func TestNext_NamesAServiceOfAnotherCase(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	name := uniqueService()
	other := strings.ToUpper(name)
	watchtest.Register(t, r, registry.Instance{ID: "a", Service: other, Address: "10.0.0.1:80"})
	_, err := r.Lookup(watchtest.Context(t), registry.Query{Service: name})
	want := fmt.Sprintf("there is no service %q, but there is %q: case counts", name, other)
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), want) {
		t.Errorf("Lookup returns %v", err)
	}
	w := watchtest.Watch(t, r, registry.Query{Service: name})
	w.Until("why it is empty", func(p watchtest.Pair) bool { return p.Err != nil && strings.Contains(p.Err.Error(), want) })
	g := watchtest.Register(t, r, registry.Instance{ID: "b", Service: name, Address: "10.0.0.1:80"})
	w.Until("the service", watchtest.Healthy(1))
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	w.Until("the empty set", watchtest.Healthy(0)) // the service was there before, so the other name is no hint
}

// The service of another case may be registered after the watch began.
func TestNext_NamesAServiceOfAnotherCaseThatComesLater(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	name := uniqueService()
	w := watchtest.Watch(t, r, registry.Query{Service: name})
	w.Until("that there is none", watchtest.Healthy(0))
	watchtest.Register(t, r, registry.Instance{ID: "a", Service: strings.ToUpper(name), Address: "10.0.0.1:80"})
	w.Until("why it is empty", func(p watchtest.Pair) bool { return p.Err != nil && strings.Contains(p.Err.Error(), "case counts") })
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: name, Address: "10.0.0.1:80"})
	w.Until("the service", watchtest.Healthy(1))
}

// Services lists names that can be looked up.
func TestServices_LeavesOutNamesThatNoQueryCanHave(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"good":[],"a b":[],"":[],"_x":[],"a/b":[],"\u001b[2J":[],"Good.2":["t"]}`)
	}))
	defer srv.Close()
	names, err := open(t, Config{Address: srv.URL}).Services(t.Context())
	if err != nil || !slices.Equal(names, []string{"Good.2", "good"}) {
		t.Errorf("there are %q, %v", names, err)
	}
	if names, err := open(t, Config{Address: srv.URL, Peer: "far"}).Services(t.Context()); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("for a peer, Services returns %q, %v", names, err)
	}
}

// If one of several datacenters fails, the error names it.
func TestFailover_NamesTheDatacenterThatFailed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "10")
		switch r.URL.Query().Get("dc") {
		case "dc2":
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, "No path to datacenter")
		default:
			fmt.Fprint(w, "[]")
		}
	}))
	defer srv.Close()
	_, err := open(t, Config{Address: srv.URL, Failover: []string{"dc3", "dc2"}}).Lookup(t.Context(), registry.Query{Service: "s"})
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "in datacenter dc2: HTTP status 500: No path to datacenter") {
		t.Errorf("the error is %v", err)
	}
}

func TestClassify_HintsAtACertificateOnlyAfterAHandshake(t *testing.T) {
	d, err := newDriver(Config{Address: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for text, want := range map[string]bool{
		"EOF": true, "read tcp 1.1.1.1:1->2.2.2.2:2: read: connection reset by peer": true, "remote error: tls: handshake failure": true,
		"http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR": false,
		"stream error: stream ID 3; INTERNAL_ERROR; received from peer":                         false,
		"http2: client connection lost":                                                         false,
		"net/http: HTTP/1.x transport connection broken":                                        false,
		"remote error: tls: certificate required":                                               false,
	} {
		err := d.agent.Classify(t.Context(), "read", time.Second, &url.Error{Op: "Get", URL: "https://127.0.0.1:1", Err: errors.New(text)})
		if strings.Contains(err.Error(), "may want a client certificate") != want {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}

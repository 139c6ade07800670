package httpmap_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/examples/httpmap"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// network is a transport that calls the store in this process, so that the tests can run in a bubble, in no time. It injects faults.
type network struct {
	store *httpmap.Store

	mu         sync.Mutex
	down       bool
	readOnly   bool
	unanswered bool
	calls      int
	cut        map[*http.Request]context.CancelFunc // the calls in progress
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	n.mu.Lock()
	n.calls++
	writes := req.Method == http.MethodPut
	down, refused, lost := n.down, n.readOnly && writes, n.unanswered && writes
	n.cut[req] = cancel
	n.mu.Unlock()
	answer := httptest.NewRecorder()
	if refused {
		answer.WriteHeader(http.StatusInsufficientStorage)
	} else if !down {
		n.store.ServeHTTP(answer, req.WithContext(ctx))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, req)
	if down || lost || ctx.Err() != nil {
		return nil, errors.Join(errors.New("the cable is cut"), req.Context().Err())
	}
	return answer.Result(), nil
}

// set changes a fault, and cuts all calls in progress if the network is down.
func (n *network) set(fault *bool, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*fault = on
	for _, cut := range n.cut {
		if n.down {
			cut()
		}
	}
}

func TestConformance(t *testing.T) {
	n := &network{store: httpmap.NewStore(), cut: map[*http.Request]context.CancelFunc{}}
	config := httpmap.Config{
		URL: &url.URL{Scheme: "http", Host: "store.example:7070"}, Transport: n,
		Options: registry.Options{Logger: slog.New(slog.DiscardHandler)},
	}
	client := func(t *testing.T, keep bool) *registry.Registry {
		c := config
		c.Options.KeepOnClose = keep
		reg, err := httpmap.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	fault := func(fault *bool) func(*testing.T) func() {
		return func(*testing.T) func() {
			n.set(fault, true)
			return func() { n.set(fault, false) }
		}
	}
	registrytest.Run(t, registrytest.Config{
		New:          func(t *testing.T) *registry.Registry { return client(t, false) },
		NewDriver:    func(*testing.T) registry.Driver { return httpmap.NewDriver(config) },
		KeepOnClose:  func(t *testing.T) *registry.Registry { return client(t, true) },
		Lose:         func(_ *testing.T, in registry.Instance) { n.store.Remove(in.Service, in.ID, "") },
		Break:        fault(&n.down),
		RefuseWrites: fault(&n.readOnly),
		LoseAnswers:  fault(&n.unanswered),
		WriteUnreadable: func(_ *testing.T, service, id string) (remove func()) {
			req := httptest.NewRequest(http.MethodPut, "/"+service+"/"+id+"?owner=other&ttl=1h", nil)
			n.store.ServeHTTP(httptest.NewRecorder(), req)
			return func() { n.store.Remove(service, id, "") }
		},
		Calls: func(*testing.T) int {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.calls
		},
		Complete: true,
		Around:   bubble.Test,
	})
}

// Over a real network, and with an entry of another writer.
func TestNew_OverTheNetwork(t *testing.T) {
	server := httptest.NewServer(httpmap.NewStore())
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := httpmap.New(httpmap.Config{URL: u, Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if _, err := reg.Register(t.Context(), registry.Instance{ID: "a", Service: "greeter", Address: "10.0.0.7:8080"}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, server.URL+"/greeter/b?owner=other&ttl=1m", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	for set, err := range reg.Watch(t.Context(), registry.Query{Service: "greeter"}) {
		if err != nil || len(set) != 1 || set[0].ID != "a" {
			t.Errorf("Watch yields %v, %v, want the instance that can be read", set, err)
		}
		break
	}
	if n := reg.CountUnreadable(); n != 1 {
		t.Errorf("CountUnreadable = %d, want 1", n)
	}
}

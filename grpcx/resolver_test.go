package grpcx_test

import (
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// channel is a fake of the channel, which records what the resolver sends.
type channel struct {
	mu     sync.Mutex
	states []resolver.State
	errs   []error
}

func (c *channel) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, s)
	return nil
}

func (c *channel) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

func (c *channel) NewAddress([]resolver.Address) {}

func (c *channel) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

func (c *channel) told() (states []resolver.State, errs []error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states, c.errs
}

func resolve(t *testing.T, r *memory.Registry) (*channel, resolver.Resolver) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := new(channel)
	res, err := grpcx.NewBuilder(r, grpcx.ResolverConfig{}).Build(resolver.Target{URL: *u}, c, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(res.Close)
	return c, res
}

func TestInstanceFromEndpoint_ReturnsInstanceOfResolver(t *testing.T) {
	store := newStore(t)
	for _, in := range []registry.Instance{
		{ID: "a", Service: service, Address: "[2001:db8::1]:80", Version: "1", Zone: "z", Weight: 3, Metadata: map[string]string{"token": "hunter2"}},
		{ID: "b", Service: service, Address: "10.0.0.2:80"},
		{ID: "c", Service: service, Address: "10.0.0.2:80"},
	} {
		if _, err := store.Register(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := resolve(t, store)
	watchtest.Eventually(t, "a state", func() bool { states, _ := c.told(); return len(states) == 1 })
	states, _ := c.told()
	got := states[0].Endpoints
	if len(got) != 2 || len(got[0].Addresses) != 1 || got[0].Addresses[0].Addr != "[2001:db8::1]:80" || got[1].Addresses[0].Addr != "10.0.0.2:80" {
		t.Fatalf("the endpoints are %v", got)
	}
	if in := grpcx.InstanceFromEndpoint(got[0]); in == nil || in.Zone != "z" || in.Weight != 3 {
		t.Errorf("the instance of the first is %v", in)
	}
	if in := grpcx.InstanceFromEndpoint(got[1]); in == nil || in.ID != "b" {
		t.Errorf("of two instances with one address it is %v, want the first", in)
	}
	if in := grpcx.InstanceFromEndpoint(resolver.Endpoint{}); in != nil {
		t.Errorf("another's endpoint has the instance %v", in)
	}
	// This text is in gRPC's log, and in the trace of the channel in channelz.
	text, err := json.Marshal(got[0])
	if want := `"rollcall":"a version=\"1\" zone=\"z\" weight=3 status=passing"`; err != nil ||
		strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), want) {
		t.Errorf("gRPC logs %s, %v, want %s", text, err, want)
	}
	if got[0].Addresses[0].Attributes != nil {
		t.Error("the address has attributes: a change of one would reconnect")
	}
}

func TestResolver_SendsIdenticalStatesOnce(t *testing.T) {
	store := newStore(t)
	registerAddress(t, store, "10.0.0.1:80")
	c, res := resolve(t, store)
	watchtest.Eventually(t, "a state", func() bool { states, _ := c.told(); return len(states) == 1 })
	for range 100 {
		res.ResolveNow(resolver.ResolveNowOptions{})
	}
	next, stop := iter.Pull2(store.Watch(watchtest.Context(t), registry.Query{Service: service})) // which the channel shares
	defer stop()
	next()
	store.Fail(errors.New("down"))
	if _, err, _ := next(); err == nil {
		t.Fatal("the outage was not seen")
	}
	store.Heal()
	if set, err, _ := next(); err != nil || len(set) != 1 {
		t.Fatalf("after the outage: %v, %v", set, err)
	}
	registerAddress(t, store, "10.0.0.2:80")
	watchtest.Eventually(t, "the change", func() bool { states, _ := c.told(); return len(states[len(states)-1].Endpoints) == 2 })
	if states, errs := c.told(); len(states) != 2 || len(errs) != 0 {
		t.Errorf("the channel was told %d states and %d errors, want 2 and 0", len(states), len(errs))
	}
}

func TestResolver_CloseEndsWatch(t *testing.T) {
	store := newStore(t)
	registerAddress(t, store, "10.0.0.1:80")
	c, res := resolve(t, store)
	watchtest.Eventually(t, "a state", func() bool { states, _ := c.told(); return len(states) == 1 })
	res.Close()
	registerAddress(t, store, "10.0.0.2:80")
	for set := range store.Watch(watchtest.Context(t), registry.Query{Service: service}) {
		if len(set) == 2 {
			break
		}
	}
	if states, errs := c.told(); len(states) != 1 || len(errs) != 0 {
		t.Errorf("after Close the channel was told %d states and %d errors", len(states)-1, len(errs))
	}
}

func TestResolver_ReportsClosedRegistry(t *testing.T) {
	store := newStore(t)
	c, _ := resolve(t, store)
	watchtest.Eventually(t, "an error", func() bool { _, errs := c.told(); return len(errs) == 1 })
	store.Close()
	watchtest.Eventually(t, "another", func() bool { _, errs := c.told(); return len(errs) == 2 })
	if _, errs := c.told(); !strings.Contains(errs[1].Error(), "closed") {
		t.Errorf("it says %v", errs[1])
	}
}

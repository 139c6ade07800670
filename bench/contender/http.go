package contender

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bufbuild/httplb"
	"github.com/bufbuild/httplb/health"
	"github.com/bufbuild/httplb/resolver"
	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/httpx"
)

// HTTP is a way to send HTTP requests to the instances of a service in Consul.
type HTTP struct {
	Name   string
	Module string // whose version the report names; "" for the standard library
	Ours   bool

	// New returns a client for requests to http://SERVICE/path. addresses are the instances, for a client that asks no registry.
	New func(consul string, addresses []string) (client *http.Client, end func(), err error)
}

// AllHTTP has the HTTP clients: the floor first, then ours.
var AllHTTP = []HTTP{
	{Name: "static list", New: func(_ string, addresses []string) (*http.Client, func(), error) {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 100
		return &http.Client{Transport: &inTurn{addresses: addresses, Transport: t}}, t.CloseIdleConnections, nil
	}},
	{Name: "Rollcall", Module: "github.com/rollcall-go/rollcall", Ours: true, New: func(consul string, _ []string) (*http.Client, func(), error) {
		r, err := OpenRollcall("consul", consul)
		if err != nil {
			return nil, nil, err
		}
		client := httpx.NewClient(r)
		return client, func() { client.Transport.(*httpx.Transport).Close(); r.Close() }, nil
	}},
	{Name: "httplb", Module: "github.com/bufbuild/httplb", New: newHTTPLB()},
	{Name: "httplb, health checks", Module: "github.com/bufbuild/httplb",
		New: newHTTPLB(httplb.WithHealthChecks(health.NewPollingChecker(health.PollingCheckerConfig{}, health.NewSimpleProber("/"))))},
}

// inTurn goes round a list of addresses.
type inTurn struct {
	addresses []string
	turn      atomic.Uint32
	*http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (t *inTurn) RoundTrip(req *http.Request) (*http.Response, error) {
	out, u := *req, *req.URL
	u.Host = t.addresses[t.turn.Add(1)%uint32(len(t.addresses))]
	out.URL = &u
	return t.Transport.RoundTrip(&out)
}

func newHTTPLB(options ...httplb.ClientOption) func(string, []string) (*http.Client, func(), error) {
	return func(consul string, _ []string) (*http.Client, func(), error) {
		c, err := api.NewClient(&api.Config{Address: consul})
		if err != nil {
			return nil, nil, err
		}
		client := httplb.NewClient(append(options, httplb.WithResolver(resolver.NewPollingResolver(passing{c}, time.Second)))...)
		return client.Client, func() { client.Close() }, nil
	}
}

// passing asks Consul for the instances that pass. httplb has no resolver for Consul, so its users write such a one.
type passing struct{ api *api.Client }

// ResolveOnce implements [resolver.ResolveProber].
func (p passing) ResolveOnce(ctx context.Context, _, service string) ([]resolver.Address, time.Duration, error) {
	if host, _, err := net.SplitHostPort(service); err == nil {
		service = host
	}
	entries, _, err := p.api.Health().Service(service, "", true, new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		return nil, 0, err
	}
	var all []resolver.Address
	for _, e := range entries {
		all = append(all, resolver.Address{HostPort: net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port))})
	}
	return all, 0, nil
}

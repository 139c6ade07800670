package policytest

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// Endpoints returns the endpoints that a resolver of package grpcx makes of instances, in any order. An instance needs only an address. Its
// weight is not changed: 0 means drained.
func Endpoints(t testing.TB, instances ...registry.Instance) []resolver.Endpoint {
	t.Helper()
	if len(instances) == 0 {
		return nil
	}
	set := make(fixed, len(instances))
	weights := map[string]int{}
	for i, in := range instances {
		in.ID, in.Service = in.Address, "service"
		weights[in.ID] = in.Weight
		in.Weight = 1 // a resolver might leave out drained instances
		set[i] = &in
	}
	cc := capture{states: make(chan resolver.State, 1)}
	r, err := grpcx.NewBuilder(set, grpcx.ResolverConfig{}).
		Build(resolver.Target{URL: url.URL{Scheme: grpcx.Scheme, Path: "/service"}}, cc, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	endpoints := (<-cc.states).Endpoints
	if len(endpoints) != len(instances) {
		t.Fatalf("%d instances give %d endpoints", len(instances), len(endpoints))
	}
	for _, e := range endpoints {
		in := grpcx.InstanceFromEndpoint(e)
		in.Weight = weights[in.ID]
	}
	return endpoints
}

// Addresses returns n instances with addresses of their own.
func Addresses(n int) []registry.Instance {
	out := make([]registry.Instance, n)
	for i := range out {
		out[i].Address = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1)
		out[i].Weight = 1
	}
	return out
}

// fixed is a registry whose set does not change.
type fixed []*registry.Instance

// Lookup implements [registry.Discovery].
func (f fixed) Lookup(context.Context, registry.Query) ([]*registry.Instance, error) { return f, nil }

// Watch implements [registry.Discovery].
func (f fixed) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		if yield(f, nil) {
			<-ctx.Done()
		}
	}
}

// capture takes the first state that a resolver sends.
type capture struct {
	resolver.ClientConn // nil: a resolver with a set calls nothing else
	states              chan resolver.State
}

// UpdateState implements [resolver.ClientConn].
func (c capture) UpdateState(s resolver.State) error {
	select {
	case c.states <- s:
	default:
	}
	return nil
}

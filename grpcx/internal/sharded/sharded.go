// Package sharded is what the balancing policies below grpcx are built on: a pick_first of gRPC's for each endpoint, so that
// an endpoint may have several addresses (tried as in RFC 8305), a connection that breaks is made again, and client-side
// health checks and outlier detection count. It is the way of round_robin and least_request in gRPC v1.85.
//
// All that it uses of gRPC's experimental packages is in this file.
package sharded

import (
	"slices"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/grpcx"
)

// Child is one endpoint.
type Child struct {
	Zone   string // of its instance; none where a resolver of others made it
	Weight int    // likewise; 1 there
	// New says that the endpoint has neither been ready nor failed since it was added: nothing is known of it.
	New bool
	// Picker picks its connection. It is nil where the endpoint is not ready: not connected, or not healthy.
	Picker balancer.Picker
}

// Build makes the policy of one endpoint. It is given the ClientConn to tell its state to.
type Build func(balancer.ClientConn) balancer.Balancer

// PickFirst is the policy of an endpoint where nothing else is asked for.
func PickFirst(o balancer.BuildOptions) Build {
	return func(cc balancer.ClientConn) balancer.Balancer { return balancer.Get(pickfirst.Name).Build(cc, o) }
}

// New returns a policy that has a child for each endpoint, and keeps all of them connected. Whenever one changes while any
// is ready, picker is called with all, in no order and in a slice of its own, and what it returns is published; its calls
// do not overlap. Those of weight 0, which drain, are among them only while no other is ready. While none is ready at all,
// calls wait or fail as they do with round_robin.
func New(cc balancer.ClientConn, o balancer.BuildOptions, child Build, picker func([]Child) balancer.Picker) balancer.Balancer {
	build := func(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
		return child(&newcomer{ClientConn: cc})
	}
	p := &publisher{ClientConn: cc, picker: picker}
	return policy{endpointsharding.NewBalancer(p, o, build, endpointsharding.Options{})}
}

type policy struct{ balancer.Balancer }

// UpdateClientConnState implements [balancer.Balancer]. The config ends here: a pick_first would take it for its own.
func (p policy) UpdateClientConnState(s balancer.ClientConnState) error {
	return p.Balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState), // it is off without, for a pick_first on its own
	})
}

// newcomer marks the pickers of a child until something is known of its endpoint.
type newcomer struct {
	balancer.ClientConn
	known bool
}

type unknown struct{ balancer.Picker }

// UpdateState implements [balancer.ClientConn]. A pick_first calls it under its lock.
func (n *newcomer) UpdateState(s balancer.State) {
	n.known = n.known || s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.TransientFailure
	if !n.known {
		s.Picker = unknown{s.Picker}
	}
	n.ClientConn.UpdateState(s)
}

// publisher puts a picker over the ready children in the place of endpointsharding's.
type publisher struct {
	balancer.ClientConn
	picker func([]Child) balancer.Picker
}

// UpdateState implements [balancer.ClientConn]. endpointsharding calls it under its lock.
func (p *publisher) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		s.Picker = p.picker(children(s.Picker))
	}
	p.ClientConn.UpdateState(s)
}

func children(p balancer.Picker) []Child {
	states := endpointsharding.ChildStatesFromPicker(p)
	out := make([]Child, 0, len(states))
	draining, serving := false, false
	for _, s := range states {
		c := Child{Weight: 1}
		if in := grpcx.InstanceFromEndpoint(s.Endpoint); in != nil {
			c.Zone, c.Weight = in.Zone, max(in.Weight, 0)
		}
		switch s.State.Picker.(type) {
		case nil, unknown: // nil before a child has said anything
			c.New = true
		default:
			if s.State.ConnectivityState == connectivity.Ready {
				c.Picker = s.State.Picker
			}
		}
		draining = draining || c.Weight == 0
		serving = serving || c.Weight > 0 && c.Picker != nil
		out = append(out, c)
	}
	if draining && serving {
		out = slices.DeleteFunc(out, func(c Child) bool { return c.Weight == 0 })
	}
	return out
}

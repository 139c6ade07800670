// Package sharded is the base of the balancing policies weighted, zone and p2c. It has one pick_first of gRPC for each endpoint, as
// round_robin and least_request have in gRPC v1.85. So an endpoint may have several addresses (tried as in RFC 8305), broken connections are
// made again, and client-side health checks and outlier detection work.
//
// All use of gRPC's experimental packages by these policies is in this file.
package sharded

import (
	"slices"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/internal/guard"
	"github.com/rollcall-go/rollcall/internal/schedule"
)

// Child is one endpoint.
type Child struct {
	Zone   string // of its instance; "" if another resolver made the endpoint
	Weight int    // of its instance; 1 if another resolver made the endpoint
	// New says that the endpoint has neither been ready nor failed since it was added.
	New bool
	// Picker picks its connection. It is nil if the endpoint is not ready, which means that it is not connected or not healthy.
	Picker balancer.Picker
}

// Build makes the policy of one endpoint, which reports its state to the ClientConn.
type Build func(balancer.ClientConn) balancer.Balancer

// PickFirst returns a Build for gRPC's pick_first.
func PickFirst(o balancer.BuildOptions) Build {
	return func(cc balancer.ClientConn) balancer.Balancer { return balancer.Get(pickfirst.Name).Build(cc, o) }
}

// New returns a policy that has a child for each endpoint, and keeps all of them connected.
//
// Whenever a child changes and at least one is ready, New calls picker with all children and publishes the result. The children are in no
// particular order, and picker owns the slice. Its calls do not overlap. Children with weight 0 or less are left out while another child
// is ready. While no child is ready, calls wait or fail as with round_robin.
func New(cc balancer.ClientConn, o balancer.BuildOptions, child Build, picker func([]Child) balancer.Picker) balancer.Balancer {
	build := func(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
		return child(&newcomer{ClientConn: cc})
	}
	p := &publisher{ClientConn: cc, picker: picker}
	return guard.New(p, func(cc balancer.ClientConn) balancer.Balancer {
		return policy{endpointsharding.NewBalancer(cc, o, build, endpointsharding.Options{})}
	})
}

type policy struct{ balancer.Balancer }

// UpdateClientConnState implements [balancer.Balancer]. It does not pass on the config, which is not meant for pick_first.
func (p policy) UpdateClientConnState(s balancer.ClientConnState) error {
	return p.Balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState), // pick_first ignores health checks by default
	})
}

// newcomer wraps the pickers of a child into unknown until its endpoint has been ready or has failed.
type newcomer struct {
	balancer.ClientConn
	known bool
}

type unknown struct{ balancer.Picker }

// UpdateState implements [balancer.ClientConn]. pick_first is locked when it calls it.
func (n *newcomer) UpdateState(s balancer.State) {
	n.known = n.known || s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.TransientFailure
	if !n.known {
		s.Picker = unknown{s.Picker}
	}
	n.ClientConn.UpdateState(s)
}

// publisher replaces the picker of endpointsharding by a picker over the ready children.
type publisher struct {
	balancer.ClientConn
	picker func([]Child) balancer.Picker
}

// UpdateState implements [balancer.ClientConn]. endpointsharding is locked when it calls it.
func (p *publisher) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		s.Picker = p.picker(children(s.Picker))
	}
	p.ClientConn.UpdateState(s)
}

func children(p balancer.Picker) []Child {
	states := endpointsharding.ChildStatesFromPicker(p)
	out := make([]Child, 0, len(states))
	drained, serving := false, false
	for _, s := range states {
		c := Child{Weight: 1}
		if in := grpcx.InstanceFromEndpoint(s.Endpoint); in != nil {
			c.Zone, c.Weight = in.Zone, schedule.Clamp(in.Weight)
		}
		switch s.State.Picker.(type) {
		case nil, unknown: // nil before a child has reported a state
			c.New = true
		default:
			if s.State.ConnectivityState == connectivity.Ready {
				c.Picker = s.State.Picker
			}
		}
		drained = drained || c.Weight == 0
		serving = serving || c.Weight > 0 && c.Picker != nil
		out = append(out, c)
	}
	if drained && serving {
		out = slices.DeleteFunc(out, func(c Child) bool { return c.Weight == 0 })
	}
	return out
}

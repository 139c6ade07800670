package grpcx_test

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/grpcx"
)

// blueBuilder makes a policy that calls only instances of version "blue" as long as one of them is ready. It is registered by
//
//	balancer.Register(blueBuilder{})
//
// and chosen by the target rollcall:///SERVICE?policy=blue.
type blueBuilder struct{}

func (blueBuilder) Name() string { return "blue" }

func (blueBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return bluePolicy{endpointsharding.NewBalancer(&bluePublisher{cc}, o, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})}
}

type bluePolicy struct{ balancer.Balancer }

func (p bluePolicy) UpdateClientConnState(s balancer.ClientConnState) error {
	s.ResolverState = pickfirst.EnableHealthListener(s.ResolverState) // otherwise health=NAME in the target has no effect
	s.BalancerConfig = nil                                            // the config of this policy is not for its children
	return p.Balancer.UpdateClientConnState(s)
}

type bluePublisher struct{ balancer.ClientConn }

func (p *bluePublisher) UpdateState(s balancer.State) {
	for _, child := range endpointsharding.ChildStatesFromPicker(s.Picker) {
		in := grpcx.InstanceFromEndpoint(child.Endpoint)
		if in != nil && in.Version == "blue" && child.State.ConnectivityState == connectivity.Ready {
			s.Picker = child.State.Picker
			break
		}
	}
	p.ClientConn.UpdateState(s)
}

// A balancing policy over gRPC's endpointsharding and pick_first.
func Example_policy() {
	balancer.Register(blueBuilder{})
	// Output:
}

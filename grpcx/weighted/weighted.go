// Package weighted registers the balancing policy rollcall_weighted, which gives each instance the share of calls that its
// weight in the registry asks for:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/weighted"
//
//	{"loadBalancingConfig":[{"rollcall_weighted":{}}]}
//
// It has no settings. An instance takes part with [registry.Instance.Weight], over a resolver of package grpcx, and with 1
// over any other. One of weight 0, which drains, gets no call while another is ready.
//
// Calls of one instance stand apart from one another: weights 5, 1 and 1 give a, a, b, a, c, a, a. While neither the
// weights nor the connections change, each instance gets its exact number of calls in as many calls as the weights add
// up to (divided by what divides all of them). Where weights are so far apart that this would be no use, as with 100
// instances of weights up to 65,535, no instance is more than six calls away from its exact share in a million calls.
//
// Weights that change take effect with the next call, on the connections that are there. Each channel starts at a place of
// its own, so that clients which start together do not call the instances in step.
//
// Client-side health checks and outlier detection of gRPC count, as they do with round_robin; while no instance is ready,
// calls wait or fail as they do there. Once the service has no instances, the error is what the resolver says of that.
package weighted

import (
	"math/rand/v2"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

// Name is that of the policy in a service config.
const Name = "rollcall_weighted"

func init() { balancer.Register(builder{}) }

type builder struct{}

// Name implements [balancer.Builder].
func (builder) Name() string { return Name }

// Build implements [balancer.Builder].
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	turn := new(atomic.Uint32)
	turn.Store(rand.Uint32()) // clients that start together do not call the instances in step
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		return sharded.New(cc, o, sharded.PickFirst(o), func(children []sharded.Child) balancer.Picker {
			return sharded.NewGroup(children).Picker(turn)
		})
	})
}

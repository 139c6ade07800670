// Package weighted registers the balancing policy rollcall_weighted, which gives each instance a share of the calls in proportion to its
// weight in the registry. Import it for that effect:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/weighted"
//
// and select it with policy=rollcall_weighted in the target of grpcx.NewClient, or in the service config:
//
//	{"loadBalancingConfig":[{"rollcall_weighted":{}}]}
//
// It has no settings. The weight is [registry.Instance.Weight] with a resolver of package grpcx, and 1 with any other resolver. Weights
// above 65,535 count as 65,535. A drained instance, with weight 0 or less, gets calls only if no instance with a weight can serve.
//
// # Order of the calls
//
// The calls of one instance are spread evenly: weights 5, 1 and 1 give a, a, b, a, c, a, a. As long as neither the weights nor the
// connections change, each instance gets exactly its share of as many calls as the sum of the weights, divided by their greatest common
// divisor. If that sum is too large, as with 100 instances with weights up to 65,535, each instance is within six calls of its exact share
// in a million calls.
//
// A changed weight takes effect with the next call, on the existing connections. Each channel starts at a random place of the order, so
// that clients that start together do not call the same instances at the same time.
//
// # Health
//
// Client-side health checks and outlier detection of gRPC work as with round_robin. While no instance is ready, calls wait or fail as with
// round_robin. If the service has no instances, calls fail with the text of the resolver.
package weighted

import (
	"math/rand/v2"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

// Name is the name of the policy in a target or a service config.
const Name = "rollcall_weighted"

func init() { balancer.Register(builder{}) }

type builder struct{}

// Name implements [balancer.Builder].
func (builder) Name() string { return Name }

// Guarded implements guard.Guarded: the policy heeds the restrictions of a resolver of package grpcx.
func (builder) Guarded() {}

// Build implements [balancer.Builder].
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	turn := new(atomic.Uint32)
	turn.Store(rand.Uint32()) // so that clients that start together do not call the same instances at the same time
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		return sharded.New(cc, o, sharded.PickFirst(o), func(children []sharded.Child) balancer.Picker {
			return sharded.NewGroup(children).Picker(turn)
		})
	})
}

package grpcx

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
)

// policyName is the round_robin of gRPC, in all but the text of a call that fails because the last instance has gone:
// gRPC's own says "no children to pick from", whatever the resolver reports, and names neither service nor registry.
const policyName = "rollcall_round_robin"

func init() { balancer.Register(policyBuilder{}) }

type policyBuilder struct{}

// Name implements [balancer.Builder].
func (policyBuilder) Name() string { return policyName }

// Build implements [balancer.Builder].
func (policyBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		return balancer.Get(roundrobin.Name).Build(cc, o)
	})
}

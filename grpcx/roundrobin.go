package grpcx

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/grpcx/internal/guard"
)

// policyName is the name of gRPC's round_robin with two additions: it does not dial instances that do not pass (package guard), and calls
// that fail because there is no instance name the service and the registry (package explain).
const policyName = "rollcall_round_robin"

func init() { balancer.Register(policyBuilder{}) }

type policyBuilder struct{}

// Name implements [balancer.Builder].
func (policyBuilder) Name() string { return policyName }

// Guarded implements [guard.Guarded].
func (policyBuilder) Guarded() {}

// Build implements [balancer.Builder].
func (policyBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		return guard.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
			return balancer.Get(roundrobin.Name).Build(cc, o)
		})
	})
}

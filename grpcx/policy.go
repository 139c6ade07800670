package grpcx

import (
	"errors"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
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
	e := &explainer{ClientConn: cc}
	return &policy{Balancer: balancer.Get(roundrobin.Name).Build(e, o), explainer: e}
}

// policy is a round_robin that notes what the resolver says of calls that have nowhere to go. gRPC calls its methods one
// after another.
type policy struct {
	balancer.Balancer
	explainer *explainer
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	p.explainer.explain(nil)
	return p.Balancer.UpdateClientConnState(s)
}

// ResolverError implements [balancer.Balancer].
func (p *policy) ResolverError(err error) {
	// The text alone: a gRPC status in err would become that of calls that wait for ready.
	p.explainer.explain(errors.New(err.Error()))
	p.Balancer.ResolverError(err)
}

// explainer passes on what round_robin tells the channel, with the text of the resolver where there is one.
type explainer struct {
	balancer.ClientConn

	mu  sync.Mutex // connections change their state, and with it round_robin's, at any time
	why error
}

func (e *explainer) explain(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.why = why
}

// UpdateState implements [balancer.ClientConn].
func (e *explainer) UpdateState(s balancer.State) {
	e.mu.Lock()
	why := e.why
	e.mu.Unlock()
	if why != nil && s.ConnectivityState == connectivity.TransientFailure {
		s.Picker = base.NewErrPicker(why)
	}
	e.ClientConn.UpdateState(s)
}

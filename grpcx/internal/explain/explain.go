// Package explain lets a balancing policy say what the resolver says of a service without instances. Policies built over
// gRPC's endpointsharding, its own round_robin among them, fail such calls with "no children to pick from", which names
// neither the service nor the registry.
package explain

import (
	"errors"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
)

// New returns the policy that build makes, which shows the text of the resolver once the last endpoint has gone. cc is
// that of the policy; build is given the one to use in its place.
func New(cc balancer.ClientConn, build func(balancer.ClientConn) balancer.Balancer) balancer.Balancer {
	e := &explainer{ClientConn: cc}
	return &policy{Balancer: build(e), explainer: e, empty: true}
}

// policy notes what the resolver says of an empty set. gRPC calls its methods one after another.
type policy struct {
	balancer.Balancer
	explainer *explainer
	empty     bool
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	p.empty = len(s.ResolverState.Endpoints) == 0
	p.explainer.explain(nil)
	return p.Balancer.UpdateClientConnState(s)
}

// ResolverError implements [balancer.Balancer].
func (p *policy) ResolverError(err error) {
	if p.empty {
		// The text alone: a gRPC status in err would become that of calls that wait for ready.
		p.explainer.explain(errors.New(err.Error()))
	}
	p.Balancer.ResolverError(err)
}

// explainer passes on what the policy tells the channel, with the text of the resolver where there is one.
type explainer struct {
	balancer.ClientConn

	mu  sync.Mutex // connections change their state, and with it the policy's, at any time
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

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

// New returns the policy that build makes, which shows the text of the resolver for as long as nobody is connected and the
// resolver has nobody to connect to, or doubts that there is. cc is that of the policy; build is given the one to use in its
// place.
func New(cc balancer.ClientConn, build func(balancer.ClientConn) balancer.Balancer) balancer.Balancer {
	e := &explainer{ClientConn: cc}
	return &policy{Balancer: build(e), explainer: e}
}

// policy notes what the resolver says of calls that have nowhere to go. gRPC calls its methods one after another.
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

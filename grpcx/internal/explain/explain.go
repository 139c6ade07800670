// Package explain makes calls fail with the text of the resolver if a service has no instances. Policies over gRPC's endpointsharding, such
// as its own round_robin, fail such calls with "no children to pick from", which names neither the service nor the registry.
package explain

import (
	"errors"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
)

// New returns a policy around the policy that build makes. While no instance is connected and the resolver reports an error, calls fail with
// the text of that error. cc is the ClientConn of the policy, and build gets the ClientConn to use instead.
func New(cc balancer.ClientConn, build func(balancer.ClientConn) balancer.Balancer) balancer.Balancer {
	e := &explainer{ClientConn: cc}
	return &policy{Balancer: build(e), explainer: e}
}

// policy passes errors of the resolver to its explainer. gRPC calls its methods one at a time.
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
	// Only the text: a gRPC status in err would become the status of calls, and would end even calls with WaitForReady.
	p.explainer.explain(errors.New(err.Error()))
	p.Balancer.ResolverError(err)
}

// explainer passes on the states of the policy, and replaces their pickers while there is an error of the resolver.
type explainer struct {
	balancer.ClientConn

	mu  sync.Mutex // UpdateState may be called at any time
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

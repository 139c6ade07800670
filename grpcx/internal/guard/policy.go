package guard

import (
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
)

// New returns a policy around the child that build makes. cc is the ClientConn of the policy, and build gets the ClientConn for the child.
// The child gets only the endpoints that it may use: unrestricted endpoints, and restricted endpoints as far as their restriction allows.
// If an endpoint must not be dialled again and its connection breaks, the child loses the endpoint at once, so that it cannot redial it.
//
// The child's picker is used as it is, so a pick costs the same as without this package.
func New(cc balancer.ClientConn, build func(balancer.ClientConn) balancer.Balancer) balancer.Balancer {
	p := &policy{ClientConn: cc, addresses: map[string]*address{}}
	p.child = build(p)
	return p
}

// policy is a policy to gRPC, and a ClientConn to its child. The child may call its methods as ClientConn at any time.
type policy struct {
	balancer.ClientConn
	child balancer.Balancer

	// calls is locked during calls of the child, since a balancer expects one call at a time. gRPC itself makes one call at a time;
	// reconsiderLater makes calls too. calls also guards these fields.
	calls  sync.Mutex
	state  balancer.ClientConnState // of the resolver
	notice *Notice                  // in state; may be nil
	given  []resolver.Endpoint      // the endpoints that the child has
	closed bool

	mu        sync.Mutex // guards the fields below; locked after calls
	addresses map[string]*address
	connected bool   // the policy has had a connection
	why       string // the text of failing calls; "" if the child has endpoints
	quiet     bool   // the child is about to get other endpoints, so its states are out of date

	closing bool // reconsiderLater must not start goroutines

	reconsidering sync.WaitGroup // the goroutines of reconsiderLater
}

// address is what is known about an address that the child has tried to connect to.
type address struct {
	choose.Link

	open int // number of connections that the child has created and not shut down, connected or not
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	p.calls.Lock()
	defer p.calls.Unlock()
	p.state, p.notice = s, From(s.ResolverState)
	if p.notice != nil {
		p.notice.heeded.Store(true)
	}
	p.forgetAddresses()
	endpoints := p.allowed()
	if p.notice != nil && p.notice.Redial {
		p.dropFailed(endpoints)
	}
	return p.give(endpoints)
}

// dropFailed takes the endpoints whose last attempt failed from the child. When the child gets them again, it dials them at once.
func (p *policy) dropFailed(endpoints []resolver.Endpoint) {
	p.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(endpoints), func(e resolver.Endpoint) bool {
		_, a := p.lookup(e)
		return a.Failed && a.Ready == 0
	})
	p.quiet = len(rest) < len(endpoints)
	drops := p.quiet
	p.mu.Unlock()
	if !drops {
		return
	}
	_ = p.give(rest) // an error about an empty list does not matter
	p.mu.Lock()
	p.quiet = false
	p.mu.Unlock()
}

// ResolverError implements [balancer.Balancer].
func (p *policy) ResolverError(err error) {
	p.calls.Lock()
	defer p.calls.Unlock()
	p.child.ResolverError(err)
}

// UpdateSubConnState implements [balancer.Balancer]. gRPC does not call it, since all connections have listeners.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements [balancer.Balancer].
func (p *policy) ExitIdle() {
	p.calls.Lock()
	defer p.calls.Unlock()
	p.child.ExitIdle()
}

// Close implements [balancer.Balancer].
func (p *policy) Close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.calls.Lock()
	p.closed = true
	p.child.Close()
	p.calls.Unlock()
	p.reconsidering.Wait()
}

// forgetAddresses deletes addresses that are not in the state and have no connection.
func (p *policy) forgetAddresses() {
	p.mu.Lock()
	defer p.mu.Unlock()
	unused := 0
	for _, a := range p.addresses {
		if a.open == 0 {
			unused++
		}
	}
	if unused == 0 {
		return
	}
	current := make(map[string]bool, len(p.state.ResolverState.Endpoints))
	for _, e := range p.state.ResolverState.Endpoints {
		for _, a := range e.Addresses {
			current[a.Addr] = true
		}
	}
	for name, a := range p.addresses {
		if a.open == 0 && !current[name] {
			delete(p.addresses, name)
		}
	}
}

// give sends endpoints to the child.
func (p *policy) give(endpoints []resolver.Endpoint) error {
	p.given = endpoints
	p.mu.Lock()
	p.why = ""
	if p.notice != nil && len(endpoints) == 0 {
		p.why = p.notice.Why
	}
	p.mu.Unlock()
	s := p.state
	s.ResolverState.Endpoints = endpoints
	return p.child.UpdateClientConnState(s)
}

// UpdateState implements [balancer.ClientConn].
func (p *policy) UpdateState(s balancer.State) {
	p.mu.Lock()
	why, quiet := p.why, p.quiet
	if !quiet && p.updateServing(s) && !p.closing {
		p.reconsiderLater()
	}
	p.mu.Unlock()
	if quiet {
		return
	}
	if why != "" && s.ConnectivityState == connectivity.TransientFailure {
		s.Picker = base.NewErrPicker(errors.New(why))
	}
	p.ClientConn.UpdateState(s)
}

// updateServing records which connected addresses fail their health check, and reports whether that has changed. p.mu is locked.
//
// A child over endpointsharding shows the state of each endpoint. Any other child shows only whether none of its endpoints serves:
//
//   - If none serves, NotServing is set for all its connected endpoints.
//   - It is cleared when the child is ready again without a restricted endpoint, or when the connection breaks.
func (p *policy) updateServing(s balancer.State) (changed bool) {
	set := func(a *address, notServing bool) {
		if a != nil && a.Ready > 0 && a.NotServing != notServing {
			a.NotServing, changed = notServing, true
		}
	}
	if states := endpointsharding.ChildStatesFromPicker(s.Picker); states != nil {
		for _, child := range states {
			if len(child.Endpoint.Addresses) > 0 {
				set(p.addresses[child.Endpoint.Addresses[0].Addr], child.State.ConnectivityState == connectivity.TransientFailure)
			}
		}
		return changed
	}
	switch s.ConnectivityState {
	case connectivity.TransientFailure:
		for _, a := range p.addresses {
			set(a, true)
		}
	case connectivity.Ready:
		for _, a := range p.addresses {
			if a.Ready > 0 && !a.NotServing {
				return false // perhaps no other instance serves
			}
		}
		for _, a := range p.addresses {
			set(a, false)
		}
	}
	return changed
}

// reconsiderLater calls reconsider in another goroutine, since the child calls UpdateState while it is locked. Close joins the goroutine.
// p.mu is locked.
func (p *policy) reconsiderLater() {
	p.reconsidering.Go(func() {
		p.calls.Lock()
		defer p.calls.Unlock()
		p.reconsider()
	})
}

// NewSubConn implements [balancer.ClientConn].
func (p *policy) NewSubConn(addresses []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	names := make([]string, len(addresses))
	for i, a := range addresses {
		names[i] = a.Addr
	}
	childListener := o.StateListener
	var conn balancer.SubConn
	state := connectivity.Idle
	o.StateListener = func(s balancer.SubConnState) {
		p.calls.Lock()
		defer p.calls.Unlock()
		before := state
		state = s.ConnectivityState
		p.recordState(names, before, state)
		listener := childListener
		if listener == nil {
			//lint:ignore SA1019 old policies give no listener
			listener = func(s balancer.SubConnState) { p.child.UpdateSubConnState(conn, s) }
		}
		if state == connectivity.Ready { // the child gets this connection before it may lose another
			listener(s)
			p.reconsider()
			return
		}
		p.reconsider() // the child loses the endpoint before it could dial it again
		listener(s)
	}
	p.mu.Lock()
	for _, name := range names {
		p.addressNamed(name).open++
	}
	p.mu.Unlock()
	//lint:ignore SA1019 there is no other way to connect
	conn, err := p.ClientConn.NewSubConn(addresses, o)
	if err != nil {
		p.recordState(names, connectivity.Idle, connectivity.Shutdown)
	}
	return conn, err
}

// addressNamed returns what is known about an address. p.mu is locked.
func (p *policy) addressNamed(name string) *address {
	a := p.addresses[name]
	if a == nil {
		a = new(address)
		p.addresses[name] = a
	}
	return a
}

// recordState records that the state of a connection to these addresses has changed.
func (p *policy) recordState(names []string, before, now connectivity.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected = p.connected || now == connectivity.Ready
	for _, name := range names {
		a := p.addresses[name]
		if before == connectivity.Ready && now != connectivity.Ready {
			a.Ready--
			a.Broke = a.Broke || now != connectivity.Shutdown
			a.NotServing = a.NotServing && a.Ready > 0
		}
		switch now {
		case connectivity.Ready:
			if before != connectivity.Ready {
				a.Ready++
			}
			a.Failed, a.Broke = false, false
		case connectivity.TransientFailure:
			a.Failed = true
		case connectivity.Idle: // after Connecting: it was connected for a moment
			a.Failed = a.Failed || before == connectivity.Connecting
		case connectivity.Shutdown:
			a.open--
		}
	}
}

// reconsider gives the child other endpoints if the connections have changed which ones are allowed. p.calls is locked.
func (p *policy) reconsider() {
	if p.closed || p.notice == nil || len(p.notice.Restrictions) == 0 {
		return
	}
	endpoints := p.allowed()
	if slices.EqualFunc(endpoints, p.given, func(a, b resolver.Endpoint) bool { return a.Addresses[0].Addr == b.Addresses[0].Addr }) {
		return
	}
	_ = p.give(endpoints) // an error asks to resolve again, which changes nothing
}

// allowed returns the endpoints that the child may have.
func (p *policy) allowed() []resolver.Endpoint {
	all := p.state.ResolverState.Endpoints
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.notice == nil || len(p.notice.Restrictions) == 0 {
		return all
	}
	o := p.survey(all)
	out := make([]resolver.Endpoint, 0, len(all))
	for _, e := range all {
		restriction, a := p.lookup(e)
		if o.Allows(restriction, a.Link) {
			if restriction > choose.Spare && a.Ready == 0 {
				p.addressNamed(e.Addresses[0].Addr).Late = true
			}
			out = append(out, e)
		}
	}
	return out
}

// lookup returns the restriction of e and what is known about its address, which is nothing if it was never dialled. p.mu is locked.
func (p *policy) lookup(e resolver.Endpoint) (choose.Restriction, address) {
	if len(e.Addresses) == 0 {
		return choose.None, address{}
	}
	name := e.Addresses[0].Addr
	restriction := p.notice.Restrictions[name]
	a := p.addresses[name]
	if a == nil {
		return restriction, address{}
	}
	if restriction == choose.None {
		a.Late = false
	}
	return restriction, *a
}

// survey returns the overview of all endpoints. p.mu is locked.
func (p *policy) survey(all []resolver.Endpoint) choose.Overview {
	o := choose.Overview{HadConnection: p.connected}
	for _, e := range all {
		restriction, a := p.lookup(e)
		o.Add(restriction, a.Link)
	}
	return o
}

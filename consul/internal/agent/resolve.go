package agent

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A name can have the addresses of several agents, such as the name of a headless service of Kubernetes. Calls that are spread
// over them would leave copies of an entry behind. So such a name becomes as many agents, of which one is in use at a time.
const (
	// resolveTimeout limits one resolution of a name.
	resolveTimeout = 3 * time.Second
	// resolveInterval is the least time between two resolutions. The failure of an agent is the reason for one.
	resolveInterval = 5 * time.Second
)

// resolver resolves the names among the addresses of a pool when the first call needs it.
type resolver struct {
	// Lookup returns the addresses of a host for the network ip4 or ip6.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	addresses []Address
	connect   func(Address) (*Agent, error)
	resolving chan struct{} // has a token while one call resolves; guards at
	at        time.Time     // of the last resolution
}

// isName reports whether the host of a is a name whose addresses can belong to several agents.
func (a Address) isName() bool {
	host, _, _ := net.SplitHostPort(a.HostPort)
	_, err := netip.ParseAddr(host)
	return err != nil && a.Socket == "" && host != "localhost"
}

// any reports whether there is a name.
func (r *resolver) any() bool { return slices.ContainsFunc(r.addresses, Address.isName) }

// resolve makes the addresses of names agents, if an agent has failed since the last resolution, or there was none.
func (p *Pool) resolve(ctx context.Context) {
	if !p.outdated.Load() {
		return
	}
	r := p.Names
	select {
	case r.resolving <- struct{}{}:
		defer func() { <-r.resolving }()
	case <-ctx.Done():
		return
	}
	if !p.outdated.Load() || !r.at.IsZero() && time.Since(r.at) < resolveInterval {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var addresses []Address
	for _, address := range r.addresses {
		found, ok := r.spread(ctx, address)
		if !ok { // what was known of the name is better than nothing
			found = p.addressesOf(address.HostPort)
		}
		addresses = append(addresses, found...)
	}
	r.at = time.Now()
	p.outdated.Store(false)
	p.replace(addresses)
}

// addressesOf returns the addresses of the agents at hostPort.
func (p *Pool) addressesOf(hostPort string) (addresses []Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.all {
		if a.address.HostPort == hostPort {
			addresses = append(addresses, a.address)
		}
	}
	return addresses
}

// spread returns an Address for each IP address of the name of address, or address itself if there is one. The IP addresses of both
// families may belong to one agent, so spread counts the addresses of one family only. It reports whether it found any.
func (r *resolver) spread(ctx context.Context, address Address) (addresses []Address, ok bool) {
	if !address.isName() {
		return []Address{address}, true
	}
	host, _, _ := net.SplitHostPort(address.HostPort)
	for _, network := range []string{"ip4", "ip6"} {
		found, _ := r.Lookup(ctx, network, host)
		var out []Address
		for _, ip := range found {
			one := address
			one.ip = ip.Unmap()
			if !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
		if len(out) > 1 {
			return out, true
		}
		ok = ok || len(out) > 0
	}
	return []Address{address}, ok
}

// replace makes addresses the agents, and keeps an agent whose address is there already. An agent that is not among them stays connected for
// its calls and leases.
func (p *Pool) replace(addresses []Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*Agent
	for _, address := range addresses {
		i := slices.IndexFunc(p.known, func(a *Agent) bool { return a.address == address })
		if i >= 0 {
			all = append(all, p.known[i])
			continue
		}
		a, err := p.Names.connect(address)
		if err != nil {
			return
		}
		p.add(a)
		all = append(all, a)
	}
	used := p.all[p.now]
	p.all, p.now = all, max(0, slices.Index(all, used))
}

package conn

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
)

const (
	scheme = "rollcall-etcd"
	// lookupPause is the least time between two look-ups of the names of the endpoints.
	lookupPause = 5 * time.Second
)

// endpoints is the resolver of the members. A name may have several addresses, such as the name of a headless Kubernetes service: each is a
// member. A name that cannot be looked up is passed to the dialer, whose error says why.
type endpoints struct {
	members   []string // host:port of each
	nameHosts bool     // the certificate of a member must have the host of its endpoint
	timeout   time.Duration
	lookup    func(ctx context.Context, host string) ([]string, error)
	reach     *reach
}

// Scheme implements [resolver.Builder].
func (e *endpoints) Scheme() string { return scheme }

// Build implements [resolver.Builder].
func (e *endpoints) Build(_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r := &endpointsResolver{endpoints: e, conn: conn, again: make(chan struct{}, 1), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if !slices.ContainsFunc(e.members, isName) {
		close(r.done)
		return r, conn.UpdateState(e.state(r.ctx, map[string][]string{}))
	}
	go r.run()
	return r, nil
}

func isName(member string) bool {
	host, _, _ := net.SplitHostPort(member)
	return net.ParseIP(host) == nil
}

// state looks up all names at the same time. A name that cannot be looked up now keeps its addresses in known, since these may be
// connected.
func (e *endpoints) state(ctx context.Context, known map[string][]string) resolver.State {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	hosts := make([][]string, len(e.members))
	var work sync.WaitGroup
	for i, m := range e.members {
		host, _, _ := net.SplitHostPort(m)
		hosts[i] = known[m]
		if hosts[i] == nil {
			hosts[i] = []string{host}
		}
		if isName(m) {
			work.Go(func() {
				if found, err := e.lookup(ctx, host); err == nil && len(found) > 0 {
					hosts[i] = found
				}
			})
		}
	}
	work.Wait()
	var all []resolver.Address
	for i, m := range e.members {
		known[m] = hosts[i]
		name, port, _ := net.SplitHostPort(m)
		for _, h := range hosts[i] {
			a := resolver.Address{Addr: net.JoinHostPort(h, port)}
			if e.nameHosts {
				a.ServerName = name
			}
			if !slices.ContainsFunc(all, a.Equal) {
				all = append(all, a)
			}
		}
	}
	return resolver.State{Addresses: all, Attributes: attributes.New(reachKey{}, e.reach)}
}

type endpointsResolver struct {
	*endpoints
	conn   resolver.ClientConn
	again  chan struct{}   // has a token when another look-up is requested
	ctx    context.Context // ends with the resolver
	cancel context.CancelFunc
	done   chan struct{}
}

// ResolveNow implements [resolver.Resolver].
func (r *endpointsResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// Close implements [resolver.Resolver].
func (r *endpointsResolver) Close() {
	r.cancel()
	<-r.done
}

func (r *endpointsResolver) run() {
	defer close(r.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	known := map[string][]string{}
	for {
		select {
		case <-pause.C:
		case <-r.ctx.Done():
			return
		}
		state := r.state(r.ctx, known)
		if r.ctx.Err() != nil {
			return
		}
		_ = r.conn.UpdateState(state) // an error requests another look-up, as a failed connection does
		pause.Reset(lookupPause)
		select {
		case <-r.again:
		case <-r.ctx.Done():
			return
		}
	}
}

package contender

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/loadbalance"
	"github.com/cloudwego/kitex/pkg/loadbalance/lbcache"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	kitexconsul "github.com/kitex-contrib/registry-consul"
)

// kitex asks anew every 5 s: its resolver for Consul has no watch.
var kitexConsul = Contender{Name: "kitex", Backend: "consul", Module: "github.com/kitex-contrib/registry-consul", Form: Agent, Asks: 5 * time.Second, Open: openKitex}

// kitexClient follows as the clients of kitex do. Each has a hook on the balancers of its kind, which are one for the process,
// and a call keeps the balancer of its service.
type kitexClient struct {
	*bare
	resolver discovery.Resolver

	mu       sync.Mutex
	balancer *lbcache.BalancerFactory
	services map[string]rpcinfo.EndpointInfo
}

func openKitex(address string) (Client, error) {
	r, err := kitexconsul.NewConsulResolver(address)
	if err != nil {
		return nil, err
	}
	c := &kitexClient{bare: newBare(), resolver: r, services: map[string]rpcinfo.EndpointInfo{}}
	// These are the options of a client that was made without options.
	c.balancer = lbcache.NewBalancerFactory(r, loadbalance.NewWeightedBalancer(), lbcache.Options{Cacheable: true})
	c.loops.Go(c.call)
	return c, nil
}

// Watch fails if the service has no instance, as a call does. Later the balancer keeps the last instances instead.
func (c *kitexClient) Watch(service string, got func(Set)) error {
	to := rpcinfo.NewEndpointInfo(service, "", nil, nil)
	key := c.resolver.Name() + ":" + c.resolver.Target(c.ctx, to)
	var first sync.Mutex // is handed out before the hook's
	first.Lock()
	defer first.Unlock()
	c.balancer.RegisterRebalanceHook(func(change *discovery.Change) {
		if change.Result.CacheKey == key {
			first.Lock()
			defer first.Unlock()
			got(kitexSet(change.Result))
		}
	})
	b, err := c.balancer.Get(c.ctx, to)
	if err != nil {
		return err
	}
	if all, ok := b.GetResult(); ok {
		got(kitexSet(all))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services[service] = to
	return nil
}

// call uses the balancers as calls do. Kitex removes a balancer that was not asked for a picker for 15 to 30 s.
func (c *kitexClient) call() {
	calls := time.NewTicker(callInterval)
	defer calls.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-calls.C:
		}
		c.mu.Lock()
		all := slices.Collect(maps.Values(c.services))
		c.mu.Unlock()
		for _, to := range all {
			if b, err := c.balancer.Get(context.Background(), to); err == nil {
				b.GetPicker()
			}
		}
	}
}

func kitexSet(r discovery.Result) Set {
	return Set{len(r.Instances), func(address string) bool {
		return slices.ContainsFunc(r.Instances, func(in discovery.Instance) bool { return in.Address().String() == address })
	}}
}

// Close leaves the balancers alone: they are the process', which ends.
func (c *kitexClient) Close() { c.end(); c.loops.Wait() }

package consul

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// driver is the registry.Driver of one agent, or of several.
type driver struct {
	client   *api.Client // of agent
	settings *settings
	agent    *agent // which calls go to
	agents   *agents
	marks    *marks
	tags     *tags
	rate     *rate
}

var (
	_ registry.Driver  = (*driver)(nil)
	_ registry.Locator = (*driver)(nil)
)

// String names the agents and the datacenter, and whatever else decides which instances there are.
func (d *driver) String() string {
	c := d.settings.Config
	name := d.agents.name()
	if c.Datacenter != "" {
		name += " " + c.Datacenter
	}
	for _, s := range [][2]string{
		{"peer", c.Peer}, {"namespace", c.Namespace}, {"partition", c.Partition}, {"failover", c.Failover}, {"filter", c.Filter},
	} {
		if s[1] != "" {
			name += " " + s[0] + "=" + s[1]
		}
	}
	if c.Connect {
		name += " connect"
	}
	return name
}

// Locate implements [registry.Locator].
func (d *driver) Locate() string {
	location := d.agents.inUse().location
	if strings.HasPrefix(location, unixScheme) {
		return "127.0.0.1:8500" // a socket is on this host, as that is
	}
	return location
}

// Announce implements [registry.Driver].
func (d *driver) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	var l *lease
	err := d.anywhere(func(d *driver) error {
		l = &lease{
			d:         d,
			serviceID: serviceID(in.Service, in.ID),
			mark:      d.marks.next(),
			beating:   make(chan struct{}, 1),
			writing:   make(chan struct{}, 1),
			released:  make(chan struct{}),
		}
		err := l.write(ctx, in)
		if err != nil {
			d.marks.failed(l.serviceID, l.mark)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.marks.settled(l.serviceID)
	return l, nil
}

// Follow implements [registry.Driver].
func (d *driver) Follow(q registry.Query) registry.Source {
	if d.settings.Failover != "" {
		return newFailover(d, q)
	}
	return d.follow(q)
}

// follow returns a source of one datacenter.
func (d *driver) follow(q registry.Query) *source {
	s := &source{d: d, query: q}
	if d.settings.Connect {
		s.last.decodeEntry = decodeProxy
	}
	return s
}

// Services implements [registry.Driver].
func (d *driver) Services(ctx context.Context) ([]string, error) {
	const what = "list services"
	var names map[string][]string
	var meta *api.QueryMeta
	err := d.anywhere(func(d *driver) error {
		if err := d.rate.wait(ctx); err != nil {
			return err
		}
		at, err := d.agent.crowd.enter(ctx, lookup)
		if err != nil {
			return err
		}
		return d.callAt(ctx, at, what, d.settings.Timeout, func(ctx context.Context) (err error) {
			names, meta, err = d.client.Catalog().Services(d.readOptions(ctx))
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case names == nil:
		return nil, d.unavailable(what, "the answer is null")
	case meta.ResultsFilteredByACLs:
		return nil, d.filtered(what)
	}
	return slices.Collect(maps.Keys(names)), nil
}

// Close implements [registry.Driver].
func (d *driver) Close() error {
	d.agents.close()
	return nil
}

// call makes one call within limit.
func (d *driver) call(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	limited, end := d.agents.enter(limited, d.agent)
	defer end()
	err := d.classify(ctx, what, limit, f(limited))
	d.agents.judge(d.agent, err, d.settings.Datacenter != "" || d.settings.Peer != "")
	return err
}

// callAt is call for one that has a place, which it gives back. It leaves the answer to consul/api.
func (d *driver) callAt(ctx context.Context, at place, what string, limit time.Duration, f func(context.Context) error) error {
	got := capture{statusOnly: true}
	err := d.call(ctx, what, limit, func(ctx context.Context) error { return f(captured(ctx, &got)) })
	at.leave(got.status, got.version)
	return err
}

// agentOptions are those of a call that concerns the agent alone. The token goes with each call, since it may change, and since
// consul/api prefers a token file of the environment to a token that is equal to that of the environment.
func (d *driver) agentOptions(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{Token: d.settings.token.now()}).WithContext(ctx)
}

// readOptions are those of a read of the catalog.
func (d *driver) readOptions(ctx context.Context) *api.QueryOptions {
	o := d.agentOptions(ctx)
	o.Datacenter, o.Peer = d.settings.Datacenter, d.settings.Peer
	o.AllowStale = d.settings.Stale
	o.RequireConsistent = d.settings.Consistent
	return o
}

// filtered is the failure of a read that the token allows only a part of. Without it, that part would pass for all there
// is.
func (d *driver) filtered(what string) error {
	return &callError{kind: registry.ErrDenied, text: "consul at " + d.settings.location + ": " + what +
		": the token may not read all of it (service:read and node:read are needed)"}
}

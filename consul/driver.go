package consul

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/registry"
)

// driver is the registry.Driver of one agent, or of several.
type driver struct {
	settings *settings
	agent    *agent.Agent // that the calls go to
	agents   *agent.Pool
	owners   *owners
	shared   *sharedState
}

var _ registry.Driver = (*driver)(nil)

func newDriver(c Config) (*driver, error) { return dialWith(agent.NewDialer(), c) }

// dialWith is newDriver with a dialer. It does no I/O but for the files that c and the environment name.
func dialWith(dialer *net.Dialer, c Config) (*driver, error) {
	s, addresses, conf, err := resolve(c)
	if err != nil {
		return nil, err
	}
	certs, err := agent.ReadCertificates(conf.TLSConfig)
	if err != nil {
		return nil, err
	}
	agents, err := agent.NewPool(addresses, &agent.Config{
		API: conf, Certs: certs, Token: s.token, Timeout: s.Timeout,
		Scrub: s.scrub, HasUser: s.basic != "", Anonymous: s.anonymous, HasFilter: s.Filter != "",
	}, dialer)
	if err != nil {
		return nil, err
	}
	return &driver{settings: s, agent: agents.InUse(), agents: agents, owners: newOwners(), shared: &sharedState{}}, nil
}

// withFailover returns d, or a driver over the datacenters of Config.Failover as well. These share the agents.
func (d *driver) withFailover() registry.Driver {
	if len(d.settings.Failover) == 0 {
		return d
	}
	all := []registry.Driver{d}
	for _, datacenter := range d.settings.Failover {
		c, s := *d, *d.settings
		s.Datacenter = datacenter
		c.settings = &s
		d.agents.Share()
		all = append(all, &c)
	}
	return registry.Failover(all...)
}

// Properties implements [registry.Driver]. The name has all settings that decide which instances and values there
// are.
func (d *driver) Properties() registry.Properties {
	c := d.settings.Config
	name := d.agents.Name()
	if c.Datacenter != "" {
		name += " " + c.Datacenter
	}
	for _, s := range [][2]string{
		{"peer", c.Peer}, {"namespace", c.Namespace}, {"partition", c.Partition},
		{"filter", strings.Join(strings.Fields(c.Filter), " ")}, // which may have several lines in a file
	} {
		if s[1] != "" {
			name += " " + s[0] + "=" + s[1]
		}
	}
	if c.Connect {
		name += " connect"
	}
	if c.ValuePrefix != "" {
		name += " values=" + c.ValuePrefix
	}
	return registry.Properties{
		Name: name, Address: d.address(), Subscribe: d.agents.Subscribe, PutValue: d.putValue, DeleteValue: d.deleteValue,
	}
}

// address is the host:port of the agent in use.
func (d *driver) address() string {
	location := d.agents.InUse().Location
	if strings.HasPrefix(location, agent.UnixScheme) {
		return "127.0.0.1:8500" // a socket is on this host, as this address is
	}
	return location
}

// Register implements [registry.Driver].
func (d *driver) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	before, _ := prev.(*lease)
	var l, left *lease // left is the last attempt of this call that may have written the entry
	err := d.anywhere(ctx, func(d *driver) error {
		l = d.newLease(in, before)
		err := l.write(ctx, in)
		if l.mayBeStored {
			before, left = l, l
		}
		return err
	})
	switch {
	case err == nil:
		return l, nil
	case left != nil:
		return left, err
	}
	return nil, err
}

// Watch implements [registry.Driver].
func (d *driver) Watch(q registry.Query) registry.Source { return d.newSource(q) }

// Services implements [registry.Driver]. It leaves out names that no query can have, such as one with a space.
func (d *driver) Services(ctx context.Context) ([]string, error) {
	const what = "list services"
	if d.settings.Peer != "" {
		return nil, fmt.Errorf("%w: consul: %s: Consul does not list the services of a peer (Peer is %q)", registry.ErrUnsupported, what, d.settings.Peer)
	}
	var names map[string][]string
	var meta *api.QueryMeta
	err := d.anywhere(ctx, func(d *driver) error {
		return d.callAs(ctx, agent.Lookup, what, func(ctx context.Context) (err error) {
			names, meta, err = d.agent.Client.Catalog().Services(d.readOptions(ctx))
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case names == nil:
		return nil, d.agent.Unavailable(what, "the answer is null")
	case meta.ResultsFilteredByACLs:
		return nil, d.agent.Filtered(what)
	case len(names) == 0 && meta.DefaultACLPolicy == "deny" && d.settings.token.Current() == "":
		// Consul does not say so to a client without a token. Its servers are a service themselves, so a list is never empty otherwise.
		return nil, d.agent.Denied(what, "ACLs hide all services from a client without a token")
	}
	return slices.DeleteFunc(slices.Collect(maps.Keys(names)), func(name string) bool {
		return registry.Query{Service: name}.Validate() != nil
	}), nil
}

// Close implements [registry.Driver].
func (d *driver) Close() error {
	d.agents.Close()
	return nil
}

// anywhere makes one attempt at the agent in use, or at the next one if that cannot be dialled.
func (d *driver) anywhere(ctx context.Context, attempt func(*driver) error) error {
	return d.agents.Anywhere(ctx, func(a *agent.Agent) error { return attempt(d.at(a)) })
}

// at returns d with its calls going to a.
func (d *driver) at(a *agent.Agent) *driver {
	if d.agent == a {
		return d
	}
	c := *d
	c.agent = a
	return &c
}

// request describes a call within limit.
func (d *driver) request(what string, limit time.Duration) agent.Request {
	return agent.Request{What: what, Limit: limit, Elsewhere: d.settings.Datacenter != "" || d.settings.Peer != ""}
}

// call makes one call within limit.
func (d *driver) call(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	return d.agent.Call(ctx, d.request(what, limit), f)
}

// callAt makes one call within limit in a slot, and releases the slot. consul/api decodes the answer.
func (d *driver) callAt(ctx context.Context, slot agent.Slot, what string, limit time.Duration, f func(context.Context) error) error {
	return d.agent.CallAt(ctx, slot, d.request(what, limit), f)
}

// callAs makes one call of that class within Config.Timeout, as soon as there is a slot for it.
func (d *driver) callAs(ctx context.Context, class agent.Class, what string, f func(context.Context) error) error {
	slot, err := d.agent.Limiter.Acquire(ctx, class)
	if err != nil {
		return err
	}
	return d.callAt(ctx, slot, what, d.settings.Timeout, f)
}

// readOptions returns the options of a read of the catalog.
func (d *driver) readOptions(ctx context.Context) *api.QueryOptions {
	o := d.agent.Options(ctx)
	o.Datacenter, o.Peer = d.settings.Datacenter, d.settings.Peer
	o.AllowStale = d.settings.Stale
	o.RequireConsistent = d.settings.Consistent
	return o
}

package consul

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// driver is the registry.Driver of one agent.
type driver struct {
	client   *api.Client
	settings *settings
	end      func() // of the transport
}

var (
	_ registry.Driver  = (*driver)(nil)
	_ registry.Locator = (*driver)(nil)
)

// String names the agent and the datacenter.
func (d *driver) String() string {
	if d.settings.Datacenter == "" {
		return "consul " + d.settings.location
	}
	return "consul " + d.settings.location + " " + d.settings.Datacenter
}

// Locate implements [registry.Locator].
func (d *driver) Locate() string { return d.settings.location }

// Announce implements [registry.Driver].
func (d *driver) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	l := &lease{
		d:         d,
		serviceID: serviceID(in.Service, in.ID),
		owner:     rand.Text(),
		beating:   make(chan struct{}, 1),
		released:  make(chan struct{}),
	}
	if err := l.write(ctx, in); err != nil {
		return nil, err
	}
	return l, nil
}

// Follow implements [registry.Driver].
func (d *driver) Follow(q registry.Query) registry.Source { return &source{d: d, query: q} }

// Services implements [registry.Driver].
func (d *driver) Services(ctx context.Context) ([]string, error) {
	const what = "list services"
	var names map[string][]string
	var meta *api.QueryMeta
	err := d.call(ctx, what, d.settings.Timeout, func(ctx context.Context) (err error) {
		names, meta, err = d.client.Catalog().Services(d.readOptions(ctx))
		return err
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
	d.end()
	return nil
}

// call makes one call within limit.
func (d *driver) call(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.classify(ctx, what, limit, f(limited))
}

// agentOptions are those of a call that concerns the agent alone. The token goes with each call, since consul/api prefers
// a token file of the environment to a token that is equal to that of the environment.
func (d *driver) agentOptions(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{Token: d.settings.Token}).WithContext(ctx)
}

// readOptions are those of a read of the catalog.
func (d *driver) readOptions(ctx context.Context) *api.QueryOptions {
	o := d.agentOptions(ctx)
	o.Datacenter = d.settings.Datacenter
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

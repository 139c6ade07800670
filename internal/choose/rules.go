package choose

import "github.com/rollcall-go/rollcall/registry"

// Rules say which instances a client wants.
type Rules struct {
	Query      registry.Query // what the client watches
	WatchesAll bool           // Query selects any status only to count the instances that pass
	Endpoint   string         // the name of the endpoint to dial; "" means the address
	TLSName    string         // the source of the name in an instance's certificate: host, meta.KEY, or "" for the service
	Config                    // with its defaults
}

// WatchAll makes the query select any status if the panic threshold needs to know all instances.
func (r *Rules) WatchAll() {
	if !r.Query.AnyStatus && r.PanicThreshold > 0 {
		r.Query.AnyStatus, r.WatchesAll = true, true
	}
}

// limit returns the instances that the client can dial, limited to its subset.
func (r *Rules) limit(use []*registry.Instance) []*registry.Instance {
	if r.Endpoint != "" {
		with := make([]*registry.Instance, 0, len(use))
		for _, in := range use {
			if in.Endpoints[r.Endpoint] != "" {
				with = append(with, in)
			}
		}
		use = with
	}
	return subset(use, r.Subset, r.ClientID)
}

// AddressOf returns the address that the client dials to reach in.
func (r *Rules) AddressOf(in *registry.Instance) string {
	if r.Endpoint == "" {
		return in.Address
	}
	return in.Endpoints[r.Endpoint]
}

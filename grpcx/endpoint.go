package grpcx

import (
	"fmt"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// endpoints are those of one channel, made anew for each of its states at little more than the cost of what changed.
type endpoints struct {
	target *target
	all    []resolver.Endpoint // never changed in place: the channel has them
	seen   map[string]bool     // addresses; kept for its memory
}

// update returns one endpoint for each address of the instances in set, which are sorted by ID. Two IDs of one address are
// one server: the first is taken.
func (e *endpoints) update(set []*registry.Instance) []resolver.Endpoint {
	if e.seen == nil {
		e.seen = make(map[string]bool, len(set))
	}
	clear(e.seen)
	old, all := e.all, make([]resolver.Endpoint, 0, len(set))
	for _, in := range set {
		address := e.target.addressOf(in)
		if e.seen[address] {
			continue
		}
		e.seen[address] = true
		for len(old) > 0 && InstanceFromEndpoint(old[0]).ID < in.ID {
			old = old[1:]
		}
		if len(old) > 0 && InstanceFromEndpoint(old[0]) == in {
			all = append(all, old[0])
			continue
		}
		made := resolver.Endpoint{
			Addresses: []resolver.Address{{Addr: address}},
			// On the endpoint and not on its address: a channel reconnects when an attribute of an address changes.
			Attributes: attributes.New(instanceKey{}, instanceValue{in}),
		}
		// For gRPC's own policies: ring_hash goes by it, and so does pick_first where it shuffles.
		all = append(all, weight.Set(made, weight.EndpointInfo{Weight: uint32(max(in.Weight, 0))}))
	}
	e.all = all
	return all
}

// InstanceFromEndpoint returns the instance behind an endpoint that a resolver of this package has made, for a balancing
// policy that looks at its weight, zone, version or metadata, and nil for any other. It is shared: do not change it.
func InstanceFromEndpoint(e resolver.Endpoint) *registry.Instance {
	v, _ := e.Attributes.Value(instanceKey{}).(instanceValue)
	return v.in
}

type instanceKey struct{}

// String is how gRPC's log and channelz call the attribute.
func (instanceKey) String() string { return "rollcall" }

// instanceValue is the attribute. gRPC compares it with Equal, and writes it to its log with String.
type instanceValue struct{ in *registry.Instance }

// Equal reports whether both say the same.
func (v instanceValue) Equal(other any) bool {
	o, ok := other.(instanceValue)
	return ok && v.in.Equal(o.in)
}

// String leaves the metadata out, which may be private.
func (v instanceValue) String() string {
	return fmt.Sprintf("%s version=%q zone=%q weight=%d status=%v", v.in.ID, v.in.Version, v.in.Zone, v.in.Weight, v.in.Status)
}

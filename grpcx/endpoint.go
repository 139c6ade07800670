package grpcx

import (
	"fmt"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// endpoints returns one endpoint for each address in set. Two IDs of one address are one server: the first is taken.
func endpoints(set []*registry.Instance) []resolver.Endpoint {
	out := make([]resolver.Endpoint, 0, len(set))
	seen := make(map[string]bool, len(set))
	for _, in := range set {
		if seen[in.Address] {
			continue
		}
		seen[in.Address] = true
		e := resolver.Endpoint{
			Addresses: []resolver.Address{{Addr: in.Address}},
			// On the endpoint and not on its address: a channel reconnects when an attribute of an address changes.
			Attributes: attributes.New(instanceKey{}, instanceValue{in}),
		}
		// For gRPC's own policies: ring_hash goes by it, and so does pick_first where it shuffles.
		out = append(out, weight.Set(e, weight.EndpointInfo{Weight: uint32(max(in.Weight, 0))}))
	}
	return out
}

// InstanceFromEndpoint returns the instance behind an endpoint that a resolver of this package has made, for a balancing
// policy that looks at its weight, zone, version or metadata, and nil for any other. It is shared: do not change it.
func InstanceFromEndpoint(e resolver.Endpoint) *registry.Instance {
	v, _ := e.Attributes.Value(instanceKey{}).(instanceValue)
	return v.in
}

type instanceKey struct{}

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

package grpcx

import (
	"fmt"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// endpoints are those of one channel, made anew for each of its states at little more than the cost of what changed: an
// instance that did not change is not even looked at.
type endpoints struct {
	target *target
	all    []resolver.Endpoint  // never changed in place: the channel has them
	of     []*registry.Instance // behind each of all
	// taken has the addresses of all. Where several instances have one, of is not the whole set that it was made from.
	taken  map[string]bool
	shared bool
}

// update returns one endpoint for each address of the instances in set, which are sorted by ID. Two IDs of one address are
// one server: the first is taken.
func (e *endpoints) update(set []*registry.Instance) []resolver.Endpoint {
	if e.shared || !e.follow(set) {
		e.remake(set)
	}
	return e.all
}

// follow makes what changed. It reports false, and has changed nothing but taken, where an address is that of two.
func (e *endpoints) follow(set []*registry.Instance) bool {
	all := make([]resolver.Endpoint, 0, len(set))
	var come []*registry.Instance
	i := 0
	for _, in := range set {
		for i < len(e.of) && in != e.of[i] && e.of[i].ID <= in.ID {
			delete(e.taken, e.target.addressOf(e.of[i]))
			i++
		}
		if i < len(e.of) && in == e.of[i] {
			all = append(all, e.all[i])
			i++
			continue
		}
		come = append(come, in)
		all = append(all, e.make(in))
	}
	for ; i < len(e.of); i++ {
		delete(e.taken, e.target.addressOf(e.of[i]))
	}
	for _, in := range come {
		if !e.take(in) {
			return false
		}
	}
	e.all, e.of = all, set
	return true
}

// remake is follow for any set, and looks at all of it.
func (e *endpoints) remake(set []*registry.Instance) {
	made := make(map[*registry.Instance]resolver.Endpoint, len(e.all))
	for i, in := range e.of {
		made[in] = e.all[i]
	}
	e.taken, e.shared = make(map[string]bool, len(set)), false
	e.all, e.of = make([]resolver.Endpoint, 0, len(set)), make([]*registry.Instance, 0, len(set))
	for _, in := range set {
		if !e.take(in) {
			e.shared = true
			continue
		}
		endpoint, ok := made[in]
		if !ok {
			endpoint = e.make(in)
		}
		e.all, e.of = append(e.all, endpoint), append(e.of, in)
	}
}

// take takes the address of in, and reports whether nobody had.
func (e *endpoints) take(in *registry.Instance) bool {
	address := e.target.addressOf(in)
	if e.taken[address] {
		return false
	}
	if e.taken == nil {
		e.taken = map[string]bool{}
	}
	e.taken[address] = true
	return true
}

func (e *endpoints) make(in *registry.Instance) resolver.Endpoint {
	made := resolver.Endpoint{
		Addresses: []resolver.Address{{Addr: e.target.addressOf(in)}},
		// On the endpoint and not on its address: a channel reconnects when an attribute of an address changes.
		Attributes: attributes.New(instanceKey{}, instanceValue{in}),
	}
	// For gRPC's own policies: ring_hash goes by it, and so does pick_first where it shuffles.
	return weight.Set(made, weight.EndpointInfo{Weight: uint32(max(in.Weight, 0))})
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

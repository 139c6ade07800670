package grpcx

import (
	"fmt"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/rollcall-go/rollcall/internal/schedule"
	"github.com/rollcall-go/rollcall/registry"
)

// endpoints makes the endpoints of one channel for each of its states. An instance that has not changed keeps its endpoint, so that a state
// costs little more than what has changed.
type endpoints struct {
	target *target
	all    []resolver.Endpoint  // never changed in place, since the channel uses it
	of     []*registry.Instance // the instance behind each element of all
	// claimed has the addresses of all. shared says that several instances of the last set have one address; of has only the first of them.
	claimed map[string]bool
	shared  bool
}

// update returns one endpoint for each address of the instances in set, which are sorted by ID. Two IDs with one address are one server,
// whose endpoint has the first instance.
func (e *endpoints) update(set []*registry.Instance) []resolver.Endpoint {
	if e.shared || !e.updateChanged(set) {
		e.rebuild(set)
	}
	return e.all
}

// updateChanged makes the endpoints of instances that have changed. If several instances have one address, it returns false and has changed
// nothing but claimed.
func (e *endpoints) updateChanged(set []*registry.Instance) bool {
	all := make([]resolver.Endpoint, 0, len(set))
	var added []*registry.Instance
	i := 0
	for _, in := range set {
		for i < len(e.of) && in != e.of[i] && e.of[i].ID <= in.ID {
			delete(e.claimed, e.target.AddressOf(e.of[i]))
			i++
		}
		if i < len(e.of) && in == e.of[i] {
			all = append(all, e.all[i])
			i++
			continue
		}
		added = append(added, in)
		all = append(all, e.make(in))
	}
	for ; i < len(e.of); i++ {
		delete(e.claimed, e.target.AddressOf(e.of[i]))
	}
	for _, in := range added {
		if !e.claim(in) {
			return false
		}
	}
	e.all, e.of = all, set
	return true
}

// rebuild makes the endpoints of any set, and looks at all of it.
func (e *endpoints) rebuild(set []*registry.Instance) {
	made := make(map[*registry.Instance]resolver.Endpoint, len(e.all))
	for i, in := range e.of {
		made[in] = e.all[i]
	}
	e.claimed, e.shared = make(map[string]bool, len(set)), false
	e.all, e.of = make([]resolver.Endpoint, 0, len(set)), make([]*registry.Instance, 0, len(set))
	for _, in := range set {
		if !e.claim(in) {
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

// claim records the address of in, and reports whether in is the first instance with it.
func (e *endpoints) claim(in *registry.Instance) bool {
	address := e.target.AddressOf(in)
	if e.claimed[address] {
		return false
	}
	if e.claimed == nil {
		e.claimed = map[string]bool{}
	}
	e.claimed[address] = true
	return true
}

func (e *endpoints) make(in *registry.Instance) resolver.Endpoint {
	made := resolver.Endpoint{
		Addresses: []resolver.Address{{Addr: e.target.AddressOf(in), ServerName: e.target.ServerName(in)}},
		// An attribute of the endpoint and not of its address: a channel reconnects when an attribute of an address changes.
		Attributes: attributes.New(instanceKey{}, instanceValue{in}),
	}
	// For gRPC's own policies. ring_hash uses both attributes, so that an instance keeps its sessions with a new address; it adds weights
	// up as uint32. pick_first uses the weight if it shuffles.
	made = weight.Set(made, weight.EndpointInfo{Weight: uint32(schedule.Clamp(in.Weight))})
	return ringhash.SetHashKey(made, in.ID)
}

// InstanceFromEndpoint returns the instance behind an endpoint, for balancing policies that use its weight, zone, version or metadata. The
// instance is shared: do not change it. InstanceFromEndpoint returns nil for endpoints of resolvers of other packages.
func InstanceFromEndpoint(e resolver.Endpoint) *registry.Instance {
	v, _ := e.Attributes.Value(instanceKey{}).(instanceValue)
	return v.in
}

type instanceKey struct{}

// String returns the name of the attribute in gRPC's log and in channelz.
func (instanceKey) String() string { return "rollcall" }

// instanceValue is the attribute. gRPC compares values with Equal, and logs them with String.
type instanceValue struct{ in *registry.Instance }

// Equal reports whether both instances are equal.
func (v instanceValue) Equal(other any) bool {
	o, ok := other.(instanceValue)
	return ok && v.in.Equal(o.in)
}

// String omits the metadata, which may be private.
func (v instanceValue) String() string {
	return fmt.Sprintf("%s version=%q zone=%q weight=%d status=%v", v.in.ID, v.in.Version, v.in.Zone, v.in.Weight, v.in.Status)
}

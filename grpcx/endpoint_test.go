package grpcx

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// There is one endpoint for each address, with the first instance that has it. An instance that has not changed keeps its endpoint.
func TestEndpoints_RemakesChangedInstancesOnly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	e := endpoints{target: &target{}}
	var set []*registry.Instance
	before := map[*registry.Instance]resolver.Endpoint{}
	for round := range 3000 {
		set = slices.Clone(set)
		ports := 8 + 100*(round/100%2) // with few ports, several instances have one address
		for range rnd.IntN(4) {
			in := &registry.Instance{ID: fmt.Sprint(rnd.IntN(20)), Address: fmt.Sprint("h:", 1+rnd.IntN(ports))}
			i := slices.IndexFunc(set, func(o *registry.Instance) bool { return o.ID == in.ID })
			switch {
			case i < 0:
				set = append(set, in)
			case rnd.IntN(2) == 0:
				set[i] = in
			default:
				set = slices.Delete(set, i, i+1)
			}
		}
		slices.SortFunc(set, func(a, b *registry.Instance) int { return cmp.Compare(a.ID, b.ID) })

		all := e.update(set)
		seen := map[string]bool{}
		now := map[*registry.Instance]resolver.Endpoint{}
		i := 0
		for _, in := range set {
			if seen[in.Address] {
				continue
			}
			seen[in.Address] = true
			if i == len(all) || InstanceFromEndpoint(all[i]) != in || all[i].Addresses[0].Addr != in.Address {
				t.Fatalf("round %d: endpoint %d does not belong to %s at %s", round, i, in.ID, in.Address)
			}
			if old, ok := before[in]; ok && old.Attributes != all[i].Attributes {
				t.Fatalf("round %d: %s did not change, and has another endpoint", round, in.ID)
			}
			now[in] = all[i]
			i++
		}
		if i != len(all) {
			t.Fatalf("round %d: %d endpoints, want %d", round, len(all), i)
		}
		before = now
	}
}

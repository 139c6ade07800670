package etcd

import (
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// makeAlike gives in what it has in common with another instance in the memory of that one. Those of a service mostly have one
// version and one set of metadata, and each would hold its own copy: with two pairs of metadata 0.4 of its 0.6 kB.
func makeAlike(in, other *registry.Instance) {
	in.Service = same(in.Service, other.Service)
	in.Version = same(in.Version, other.Version)
	in.Zone = same(in.Zone, other.Zone)
	if slices.Equal(in.Tags, other.Tags) {
		in.Tags = other.Tags
	}
	if maps.Equal(in.Metadata, other.Metadata) {
		in.Metadata = other.Metadata
	}
}

func same(s, other string) string {
	if s == other {
		return other
	}
	return s
}

// Package share keeps equal parts of instances in memory once.
package share

import (
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// Recent are the instances of a service whose parts the next one can use. There are a few, since two or three versions of a service run at
// once in a rolling deploy. The zero value is ready for use. It is for the reader of one service and one goroutine.
type Recent [4]*registry.Instance

// Share makes in use the memory of recent instances for equal parts. Most instances of a service have the same version and metadata: the map
// and its texts are more than half of the memory of an instance.
//
// Only the caller may know in yet, and no other instance may use its maps. After the call in must not change, like all instances that
// a reader returns.
func (r *Recent) Share(in *registry.Instance) {
	from := r.closest(in)
	if from == nil {
		r.add(in)
		return
	}
	in.Service = same(in.Service, from.Service)
	in.Version = same(in.Version, from.Version)
	in.Zone = same(in.Zone, from.Zone)
	if slices.Equal(in.Tags, from.Tags) {
		in.Tags = from.Tags
	}
	sharePairs(in.Endpoints, from.Endpoints)
	if maps.Equal(in.Metadata, from.Metadata) {
		in.Metadata = from.Metadata
		return
	}
	sharePairs(in.Metadata, from.Metadata)
	r.add(in)
}

// closest returns the recent instance that has most in common with in: one with the same metadata, else the newest one of the same version,
// else the newest one. It returns nil if there is none.
func (r *Recent) closest(in *registry.Instance) *registry.Instance {
	best := r[0]
	for _, other := range r {
		if other == nil {
			break
		}
		if maps.Equal(in.Metadata, other.Metadata) {
			return other
		}
		if best.Version != in.Version && other.Version == in.Version {
			best = other
		}
	}
	return best
}

// add makes in the newest one.
func (r *Recent) add(in *registry.Instance) {
	copy(r[1:], r[:])
	r[0] = in
}

// sharePairs makes to use the keys of from, and its values if they are equal.
func sharePairs(to, from map[string]string) {
	if len(to) == 0 {
		return
	}
	for k, v := range from {
		if own, ok := to[k]; ok {
			to[k] = same(own, v) // an assignment replaces the text of the key too, since equal texts may be in different memory
		}
	}
}

func same(s, other string) string {
	if s == other {
		return other
	}
	return s
}

package etcd

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/registry"
)

// departures finds out which instances leave on purpose. An owner writes the status Maintenance before it removes the entry: see leaving.go.
type departures struct {
	leaving map[string]bool // by ID: the newest content has the status Maintenance
	left    []string        // IDs of instances that were then removed
}

// note takes an event into account. in is the instance of the event, or nil, and set is the set before it.
func (d *departures) note(e *mvccpb.Event, id string, in *registry.Instance, set []*registry.Instance) {
	switch {
	case e.Type != mvccpb.Event_DELETE:
		d.see(id, in)
	case d.leaving[id]:
		delete(d.leaving, id)
		if hasID(set, id) { // otherwise no reader has seen it
			d.left = append(d.left, id)
		}
	}
}

// see notes whether the instance with this ID leaves.
func (d *departures) see(id string, in *registry.Instance) {
	if in == nil || in.Status != registry.Maintenance {
		delete(d.leaving, id)
		return
	}
	if d.leaving == nil {
		d.leaving = map[string]bool{}
	}
	d.leaving[id] = true
}

// listed takes a whole set into account. An instance that was leaving, and is not in the set, has left.
func (d *departures) listed(set []*registry.Instance) {
	for id := range d.leaving {
		if !hasID(set, id) {
			d.left = append(d.left, id)
		}
	}
	d.leaving = nil
	for _, in := range set {
		if in.Status == registry.Maintenance {
			d.see(in.ID, in)
		}
	}
}

// hasID reports whether set, which is sorted by ID, has an instance with the ID.
func hasID(set []*registry.Instance, id string) bool {
	_, found := slices.BinarySearchFunc(set, id, func(in *registry.Instance, id string) int { return cmp.Compare(in.ID, id) })
	return found
}

// drain returns the IDs of the instances that have left since the last call.
func (d *departures) drain() []string {
	left := d.left
	d.left = nil
	return left
}

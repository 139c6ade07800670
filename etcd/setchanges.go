package etcd

import (
	"cmp"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// setChanges collects changes of a set, in the order in which they happened.
type setChanges struct {
	edits []edit
}

// edit makes in the instance with the ID, or removes that if in is nil.
type edit struct {
	id string
	in *registry.Instance
}

func (e *setChanges) put(id string, in *registry.Instance) { e.edits = append(e.edits, edit{id, in}) }

// of returns set with the changes, and whether it differs from set, which stays as it is. It drops the changes. However many there are, they
// are sorted once and set is copied once.
func (e *setChanges) of(set []*registry.Instance) ([]*registry.Instance, bool) {
	edits := e.edits
	e.edits = nil
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.id, b.id) })
	var next []*registry.Instance
	done := 0 // the instances before this index are in next, or removed
	for i, c := range edits {
		if i+1 < len(edits) && edits[i+1].id == c.id {
			continue // the later change counts
		}
		at, found := slices.BinarySearchFunc(set[done:], c.id, func(in *registry.Instance, id string) int { return cmp.Compare(in.ID, id) })
		at += done
		if !found && c.in == nil || found && c.in != nil && set[at].Equal(c.in) {
			continue
		}
		if next == nil {
			next = make([]*registry.Instance, 0, len(set)+len(edits)-i)
		}
		next = append(next, set[done:at]...)
		if c.in != nil {
			next = append(next, c.in)
		}
		done = at
		if found {
			done++
		}
	}
	if next == nil {
		return set, false
	}
	return append(next, set[done:]...), true
}

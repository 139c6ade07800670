package registry

import (
	"cmp"
	"slices"

	"github.com/rollcall-go/rollcall/internal/delta"
)

// merge returns the instances of raw that q selects, sorted, and whether they are the same as those in old. An instance that did not
// change has the pointer that it has in old. merge changes neither old nor raw, and may return raw itself.
//
// As long as raw has the pointers of old, in the same order, it compares pointers only: a driver that knows what changed returns such
// a slice, and of many instances one changes at a time.
func merge(old, raw []*Instance, q Query) (set []*Instance, same bool) {
	set, own := selected(old, raw, q)
	same = len(set) == len(old)
	i := 0
	for j, in := range set {
		if i < len(old) && in == old[i] {
			i++
			continue
		}
		for i < len(old) && compareInstances(old[i], in) < 0 {
			i++
		}
		if i < len(old) && compareInstances(old[i], in) == 0 && old[i].Equal(in) {
			if in != old[i] {
				if !own {
					set, own = slices.Clone(set), true
				}
				set[j] = old[i]
			}
			i++
		} else {
			same = false
		}
	}
	return set, same
}

// selected returns the instances of raw that q selects, sorted, each ID and address once. If a store has an instance twice, as Consul
// does after a registration that moved to another agent, the copy that passes counts. selected reports whether the slice is its own,
// and not a part of raw.
func selected(old, raw []*Instance, q Query) (set []*Instance, own bool) {
	set = raw[:0]
	if set == nil {
		set = []*Instance{} // not nil: the set is known to be empty
	}
	sorted, follows := true, false // follows: the last instance was in old, so the next ones from old are greater
	i := 0
	for j, in := range raw {
		k := delta.Find(old, i, in)
		kept := k >= 0
		switch {
		case kept: // the old instances before k are missing from raw, or were replaced
			i = k + 1
		case !q.Matches(in):
			if !own {
				set, own = append(make([]*Instance, 0, len(raw)), set...), true
			}
			continue
		}
		n := len(set)
		if n > 0 && !(kept && follows) && compareInstances(set[n-1], in) >= 0 {
			sorted = false
		}
		if own {
			set = append(set, in)
		} else {
			set = raw[:j+1]
		}
		follows = kept
	}
	if sorted {
		return set, own
	}
	if !own {
		set = slices.Clone(set)
	}
	slices.SortStableFunc(set, func(a, b *Instance) int { return cmp.Or(compareInstances(a, b), cmp.Compare(a.Status, b.Status)) })
	return slices.CompactFunc(set, func(a, b *Instance) bool { return compareInstances(a, b) == 0 }), true
}

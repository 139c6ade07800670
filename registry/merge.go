package registry

import (
	"cmp"
	"slices"

	"github.com/rollcall-go/rollcall/internal/delta"
)

// merge returns what q selects of raw, in order, with the pointers of old for instances that did not change, and whether
// nothing changed at all. It changes neither old nor raw, and returns raw itself where that is the answer, as it is from a driver
// that knows what changed. Where raw has the pointers of old in their order, it looks at nothing but them: of many instances one
// at a time changes.
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

// selected returns what q selects of raw, sorted, each ID and address once: where a store has one twice, as Consul does after an
// announcement that had to move to another agent, the copy that passes counts. It reports whether that is a slice of its own, and
// not a part of raw.
func selected(old, raw []*Instance, q Query) (set []*Instance, own bool) {
	if set = raw[:0]; set == nil {
		set = []*Instance{} // which is known to be empty
	}
	sorted, follows := true, false // follows: the last one was one of old, and those that come next there are greater
	i := 0
	for j, in := range raw {
		k := delta.Find(old, i, in)
		kept := k >= 0
		switch {
		case kept: // those before it have gone, or were replaced
			i = k + 1
		case !q.Matches(in):
			if !own {
				set, own = append(make([]*Instance, 0, len(raw)), set...), true
			}
			continue
		}
		if n := len(set); n > 0 && !(kept && follows) && compareInstances(set[n-1], in) >= 0 {
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

// Package delta compares a set with the one before it by pointers: an element that did not change has the same pointer.
package delta

// reach is how far Find looks. If more elements than that, in a row, are missing from the next set, the elements after them are not
// found.
const reach = 64

// Find returns the index of p in old, or -1 if it is not among the next few elements from i on. It compares pointers only.
func Find[T any](old []*T, i int, p *T) int {
	for k := i; k < min(len(old), i+reach); k++ {
		if old[k] == p {
			return k
		}
	}
	return -1
}

// AllNew reports whether ok is true for each element of set that is not in old. If both have the same order and few elements differ, it
// compares pointers and calls ok for these few only; otherwise it also calls ok for others.
func AllNew[T any](old, set []*T, ok func(*T) bool) bool {
	i := 0
	for _, p := range set {
		if k := Find(old, i, p); k >= 0 {
			i = k + 1
		} else if !ok(p) {
			return false
		}
	}
	return true
}

// Package delta finds out cheaply what of a set is not in the one before it, where one that did not change is the same pointer.
package delta

// reach is how many that are gone may follow one another in a set before those after them are not found any more.
const reach = 64

// Find returns the place of p among the next of old, from i on, and -1 where it is not there. It compares pointers alone.
func Find[T any](old []*T, i int, p *T) int {
	for k := i; k < min(len(old), i+reach); k++ {
		if old[k] == p {
			return k
		}
	}
	return -1
}

// AllNew reports whether ok holds for each of set that is not in old, at the cost of comparing pointers as long as both are in
// one order and few have changed. Otherwise it also asks about some that are.
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

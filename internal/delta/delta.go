// Package delta finds out cheaply what of a set is not in the one before it, where one that did not change is the same pointer.
package delta

// AllNew reports whether ok holds for each of set that is not in old, at the cost of comparing pointers as long as both are in
// one order and few have changed. Otherwise it also asks about some that are.
func AllNew[T any](old, set []*T, ok func(*T) bool) bool {
	i := 0
	for _, p := range set {
		switch {
		case i < len(old) && p == old[i]:
			i++
		case i+1 < len(old) && p == old[i+1]: // the one between has gone, or was replaced
			i += 2
		case !ok(p):
			return false
		}
	}
	return true
}

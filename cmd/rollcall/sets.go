package main

import (
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// sorted returns the values of m by their keys.
func sorted(m map[string]*registry.Instance) []*registry.Instance {
	var all []*registry.Instance
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// same reports whether two sets have the same content.
func same(a, b []*registry.Instance) bool {
	return slices.EqualFunc(a, b, (*registry.Instance).Equal)
}

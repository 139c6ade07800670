package choose

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// subset returns n instances of set, in the order of set, or set itself if it has no more. Each client gives each instance a rank that does
// not depend on the other instances, and uses the first n (rendezvous hashing, Thaler and Ravishankar 1996). So an instance that comes
// replaces one at most, and an instance that goes is replaced by one.
func subset(set []*registry.Instance, n int, client string) []*registry.Instance {
	if n <= 0 || len(set) <= n {
		return set
	}
	type ranked struct {
		rank  uint64
		index int
	}
	ranks := make([]ranked, len(set))
	for i, in := range set {
		ranks[i] = ranked{rank(client, in.ID), i}
	}
	slices.SortFunc(ranks, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.index, b.index)) })
	ranks = ranks[:n]
	slices.SortFunc(ranks, func(a, b ranked) int { return cmp.Compare(a.index, b.index) })
	chosen := make([]*registry.Instance, n)
	for i, r := range ranks {
		chosen[i] = set[r.index]
	}
	return chosen
}

// rank must be the same in every process and in every release: another rank would move the connections of a whole fleet.
func rank(client, instance string) uint64 {
	sum := sha256.Sum256([]byte(client + "\x00" + instance)) // an ID contains no 0 byte
	return binary.BigEndian.Uint64(sum[:])
}

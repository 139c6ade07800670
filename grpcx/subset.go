package grpcx

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// subset returns n instances of set, in its order, where it has more. Each client gives each instance a rank of its own
// that no other instance has a part in, and takes the first n (rendezvous hashing, Thaler and Ravishankar 1996): one that
// comes takes the place of one at the most, and one that goes leaves its place to one.
func subset(set []*registry.Instance, n int, client string) []*registry.Instance {
	if n <= 0 || len(set) <= n {
		return set
	}
	type ranked struct {
		rank uint64
		at   int
	}
	ranks := make([]ranked, len(set))
	for i, in := range set {
		ranks[i] = ranked{rank(client, in.ID), i}
	}
	slices.SortFunc(ranks, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at)) })
	ranks = ranks[:n]
	slices.SortFunc(ranks, func(a, b ranked) int { return cmp.Compare(a.at, b.at) })
	chosen := make([]*registry.Instance, n)
	for i, r := range ranks {
		chosen[i] = set[r.at]
	}
	return chosen
}

// rank is the same in every process and in every release: another would move the connections of a whole fleet.
func rank(client, instance string) uint64 {
	sum := sha256.Sum256([]byte(client + "\x00" + instance)) // the second half cannot hold a 0
	return binary.BigEndian.Uint64(sum[:])
}

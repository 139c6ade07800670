package delta

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDelta_AllNew(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pool := make([]*int, 30)
	for i := range pool {
		pool[i] = &i
	}
	for range 5000 {
		old := slices.Clone(pool[:rnd.IntN(20)])
		set := slices.Clone(old)
		for range rnd.IntN(4) {
			i, p := rnd.IntN(len(set)+1), pool[rnd.IntN(len(pool))]
			switch {
			case i == len(set) || rnd.IntN(3) == 0:
				set = slices.Insert(set, i, p)
			case rnd.IntN(2) == 0:
				set[i] = p
			default:
				set = slices.Delete(set, i, i+1)
			}
		}
		asked := map[*int]bool{}
		AllNew(old, set, func(p *int) bool { asked[p] = true; return true })
		for _, p := range set {
			if !slices.Contains(old, p) && !asked[p] {
				t.Fatalf("%v after %v: it was not asked about %v", set, old, p)
			}
		}
		if len(asked) > 0 && AllNew(old, set, func(*int) bool { return false }) {
			t.Fatalf("%v after %v: one is not right", set, old)
		}
	}
}

// What changed is all that is looked at, wherever it is.
func TestDelta_FewOfMany(t *testing.T) {
	old := make([]*int, 100)
	for i := range old {
		old[i] = new(int)
	}
	for i := range old[:len(old)-9] {
		if asked := asks(old, slices.Delete(slices.Clone(old), i, i+10)); asked != 0 {
			t.Errorf("with 10 gone from the %d-th on it was asked about %d", i, asked)
		}
		for name, set := range map[string][]*int{
			"came": slices.Insert(slices.Clone(old), i, new(int)), "gone": slices.Delete(slices.Clone(old), i, i+1),
			"replaced": slices.Replace(slices.Clone(old), i, i+1, new(int)),
		} {
			asked := asks(old, set)
			if want := map[bool]int{true: 0, false: 1}[name == "gone"]; asked != want {
				t.Errorf("the %d-th of %d is %s: it was asked about %d", i, len(old), name, asked)
			}
		}
	}
}

func asks(old, set []*int) (n int) {
	AllNew(old, set, func(*int) bool { n++; return true })
	return n
}

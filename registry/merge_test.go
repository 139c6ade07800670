package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The shortcuts for what did not change must not show: after any other sets, the set is what q selects, sorted, each
// once, and an instance that says the same keeps its pointer.
func TestMerge_IsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	q := Query{Service: "s", Version: "1", AnyStatus: true}
	var old []*Instance
	for round := range 2000 {
		raw := slices.Clone(old)
		for range rnd.IntN(4) {
			in := &Instance{ID: fmt.Sprint(rnd.IntN(12)), Service: "s", Address: fmt.Sprint("h:", 1+rnd.IntN(2)), Version: fmt.Sprint(1 + rnd.IntN(4)/3),
				Status: Status(max(0, rnd.IntN(5)-2))}
			i := rnd.IntN(len(raw) + 1)
			switch {
			case i == len(raw) || rnd.IntN(3) == 0:
				raw = slices.Insert(raw, i, in)
			case rnd.IntN(2) == 0:
				raw[i] = in
			default:
				raw = slices.Delete(raw, i, i+1)
			}
		}
		if rnd.IntN(4) == 0 {
			rnd.Shuffle(len(raw), func(i, j int) { raw[i], raw[j] = raw[j], raw[i] })
		}
		given, before := slices.Clone(raw), slices.Clone(old)

		var want []*Instance
		for _, in := range raw {
			if !q.Matches(in) {
				continue
			}
			switch i := slices.IndexFunc(want, func(w *Instance) bool { return compareInstances(w, in) == 0 }); {
			case i < 0:
				want = append(want, in)
			case in.Status < want[i].Status:
				want[i] = in
			}
		}
		slices.SortFunc(want, compareInstances)
		set, same := merge(old, raw, q)
		if !slices.EqualFunc(set, want, (*Instance).Equal) {
			t.Fatalf("round %d: %v after %v makes %v, want %v", round, texts(raw), texts(old), texts(set), texts(want))
		}
		for _, in := range set {
			if i := slices.IndexFunc(old, func(o *Instance) bool { return o.Equal(in) }); i >= 0 && old[i] != in {
				t.Fatalf("round %d: %s did not change and is another pointer", round, in.ID)
			}
		}
		if same != slices.Equal(set, old) {
			t.Fatalf("round %d: %v after %v is the same: %v", round, texts(set), texts(old), same)
		}
		if !slices.Equal(raw, given) || !slices.Equal(old, before) {
			t.Fatalf("round %d: merge changed its input", round)
		}
		old = set
	}
}

// What a driver made of its last set and one change is not copied.
func TestMerge_ReturnsRawItselfIfItIsTheResult(t *testing.T) {
	q := Query{Service: "s", AnyStatus: true}
	in := func(id string) *Instance { return &Instance{ID: id, Service: "s", Address: "h:1"} }
	a, b, c, d := in("a"), in("b"), in("c"), in("d")
	for name, raw := range map[string][]*Instance{"as before": {a, b, c}, "one more": {a, b, c, d}, "one less": {a, c}, "another": {a, in("b2"), c}} {
		if set, _ := merge([]*Instance{a, b, c}, raw, q); &set[0] != &raw[0] || len(set) != len(raw) {
			t.Errorf("%s: it made a set of its own: %v", name, texts(set))
		}
	}
	if set, _ := merge(nil, nil, q); set == nil {
		t.Error("a set that is known to be empty is none")
	}
}

func texts(set []*Instance) (out []string) {
	for _, in := range set {
		out = append(out, fmt.Sprintf("%s@%s/%s/%v", in.ID, in.Address, in.Version, in.Status))
	}
	return out
}

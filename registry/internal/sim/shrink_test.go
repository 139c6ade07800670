package sim

import (
	"reflect"
	"slices"
	"testing"
)

func TestShrink_KeepsTheStepsThatMatter(t *testing.T) {
	var h History
	for _, content := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		h.Steps = append(h.Steps, Step{Content: content})
	}
	has := func(h History, content string) bool {
		return slices.ContainsFunc(h.Steps, func(s Step) bool { return s.Content == content })
	}
	asked := 0
	short := Shrink(h, 100, func(h History) bool {
		asked++
		return has(h, "b") && has(h, "f")
	})
	if len(short.Steps) != 2 || !has(short, "b") || !has(short, "f") || asked > 100 {
		t.Errorf("Shrink asked %d times, and returns %v, want b and f", asked, short.Steps)
	}
	if len(h.Steps) != 7 {
		t.Errorf("Shrink changed its argument to %v", h.Steps)
	}
}

func TestGenerate_IsTheSameForOneSeed(t *testing.T) {
	for seed := range uint64(50) {
		a, b := Generate(seed), Generate(seed)
		if !reflect.DeepEqual(a, b) || len(a.Steps) < 8 {
			t.Errorf("seed %d gives\n%v\nand\n%v", seed, a, b)
		}
		inOrder := func(a, b Step) int { return int(a.At - b.At) }
		if !slices.IsSortedFunc(a.Steps, inOrder) {
			t.Errorf("the steps of seed %d are not in the order of their times:\n%v", seed, a)
		}
	}
}

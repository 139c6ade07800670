package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func set(ids ...string) (all []*registry.Instance) {
	for _, id := range ids {
		all = append(all, &registry.Instance{ID: id, Version: "1"})
	}
	return all
}

func TestWitness_NamesWhatIsViolated(t *testing.T) {
	away := errors.New("away")
	type pair struct {
		set []*registry.Instance
		err error
	}
	for name, test := range map[string]struct {
		mayMiss int
		pairs   []pair
		want    string // part of the only violation; empty if there must be none
	}{
		"first sets may be incomplete": {0, []pair{{set("a"), nil}, {set("a", "b"), nil}}, ""},
		"incomplete beside an error":   {0, []pair{{set("a", "b"), nil}, {set("a"), away}}, ""},
		"incomplete without an error":  {0, []pair{{set("a", "b"), nil}, {set("a"), nil}}, "lacks b without an error"},
		"empty beside an error":        {0, []pair{{set("a", "b"), nil}, {nil, away}}, "empty beside the error away"},
		"empty without an error":       {0, []pair{{set("a", "b"), nil}, {nil, nil}}, "empty"},
		"back although deregistered":   {0, []pair{{set("a", "b"), nil}, {set("a", "b", "gone"), away}}, "gone is deregistered, and is back"},
		"an instance that is new":      {0, []pair{{set("a", "b"), nil}, {set("a", "b", "new"), nil}}, ""},
		"one may be missing":           {1, []pair{{set("a", "b"), nil}, {set("a", "new"), nil}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness("s", []string{"a", "b"})
			w.allow(test.mayMiss)
			w.gone["gone"] = true
			for _, p := range test.pairs {
				w.observe(p.set, p.err)
			}
			pairs, got := w.take()
			if pairs != len(test.pairs) {
				t.Errorf("it has counted %d pairs of %d", pairs, len(test.pairs))
			}
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
				t.Errorf("violations %q, want %q", got, test.want)
			}
			if _, again := w.take(); len(again) > 0 {
				t.Errorf("taken twice: %q", again)
			}
		})
	}
}

func TestWitness_SettlesOnTheExactSet(t *testing.T) {
	w := newWitness("s", []string{"a", "b"})
	isOne := func(in registry.Instance) bool { return in.Version == "1" }
	is := func(version string) func(registry.Instance) bool {
		return func(in registry.Instance) bool { return in.Version == version }
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, step := range []struct {
		set     []*registry.Instance
		err     error
		content func(registry.Instance) bool
		want    bool
	}{
		{set("a"), nil, isOne, false},
		{set("a", "b"), nil, isOne, true},
		{set("a", "b"), nil, is("2"), false},
		{set("a", "b"), errors.New("away"), isOne, false},
		{set("a", "b", "c"), nil, isOne, false},
		{set("b", "a"), nil, isOne, true},
	} {
		w.observe(step.set, step.err)
		if got := w.settled(over, step.content) == nil; got != step.want {
			t.Errorf("settled with %d instances and %v: %v, want %v", len(step.set), step.err, got, step.want)
		}
	}
	if err := w.left(over, "a"); err == nil || slices.Contains(w.violations, "a") {
		t.Errorf("an instance that is in the set has left: %v", err)
	}
	if err := w.left(over, "c"); err != nil || !w.gone["c"] {
		t.Errorf("an instance that is not in the set has not left: %v", err)
	}
}

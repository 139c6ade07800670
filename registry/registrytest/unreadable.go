package registrytest

import (
	"fmt"
	"slices"
)

// unreadable is about entries of other programs.
var unreadable = []promise{
	{
		name:  "unreadable entry",
		needs: "WriteUnreadable",
		why: "An entry that is no instance is left out alone, and counted for as long as it exists. One mistake of an operator must " +
			"neither hide the instances beside it nor stay unknown.",
		check: unreadableEntry,
	},
}

func unreadableEntry(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	t.register(r, t.instance("b"))
	w := t.watch(r, t.all())
	w.until("both instances", exactly("a", "b"))
	seen := w.count() - 1
	remove := t.once(t.WriteUnreadable(t.T, t.name(), "c"))
	t.eventually("CountUnreadable counts the entry", func() bool { return r.CountUnreadable() == 1 || failed(w.last()) })
	for i := range 2 {
		in := t.instance("a")
		in.Version = fmt.Sprint(i)
		t.update(g, in)
		w.until("an update", having("a", in.Version))
	}
	if got := ids(t.lookup(t.all())); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("beside an entry that is no instance, Lookup finds %q", got)
	}
	late := t.watch(t.client(), t.all())
	if first := late.until("a first pair", func(pair) bool { return true }); !exactly("a", "b")(first) {
		t.Errorf("beside an entry that is no instance, a watch begins with %v", first)
	}
	if n := r.CountUnreadable(); n != 1 {
		t.Errorf("CountUnreadable is %d, want 1", n)
	}
	remove()
	t.eventually("CountUnreadable is 0 after the entry was removed", func() bool { return r.CountUnreadable() == 0 })
	for _, p := range w.since(seen) {
		if !exactly("a", "b")(p) {
			t.Errorf("the two instances did not leave, and the watch yielded %v", p)
			break
		}
	}
}

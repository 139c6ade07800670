package registrytest

import (
	"errors"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// lookups is about Lookup without a watch.
var lookups = []promise{
	{
		name:      "lookup after a write",
		registers: true,
		why: "Lookup sees what the same client has registered, updated or deregistered before it, also if it has looked up the service " +
			"before: a program must be able to find what it has just registered.",
		check: lookupAfterAWrite,
	},
	{
		name:  "lookups cost little",
		needs: "Calls",
		why: "Repeated lookups of one query share one watch. A program that looks up before each request must not ask the store " +
			"each time.",
		check: lookupsCostLittle,
	},
	{
		name:  "lookup remembers",
		needs: "Break",
		why: "A Lookup in an outage returns what an earlier Lookup found, beside an error that wraps a StaleError. A program that looks " +
			"up is as well off as one that watches.",
		check: lookupRemembers,
	},
}

func lookupAfterAWrite(t *trial) {
	r := t.client()
	find := func(what string, want ...string) []*registry.Instance {
		t.Helper()
		set, err := r.Lookup(t.inTime(), t.all())
		if err != nil || !slices.Equal(ids(set), want) {
			t.Errorf("%s, Lookup returns %v, want %q", what, pair{set, err}, want)
		}
		return set
	}
	find("before all")
	g := t.register(r, t.instance("a"))
	find("after Register", "a")
	t.register(r, t.instance("b"))
	find("after another Register", "a", "b")
	in := t.instance("a")
	in.Version = "2"
	t.update(g, in)
	if set := find("after Update", "a", "b"); len(set) > 0 && set[0].Version != in.Version {
		t.Errorf("after Update, Lookup returns version %q, want %q", set[0].Version, in.Version)
	}
	t.deregister(g)
	find("after Deregister", "b")
}

func lookupsCostLittle(t *trial) {
	r := t.client()
	t.register(t.client(), t.instance("a"))
	t.watch(t.client(), t.all()).until("the instance", exactly("a"))
	before := t.Calls(t.T)
	const n = 200
	for range n {
		if set, err := r.Lookup(t.inTime(), t.all()); err != nil || len(set) != 1 {
			t.Fatalf("Lookup returns %v", pair{set, err})
		}
	}
	// The store may be asked for other reasons meanwhile: leases are renewed.
	if got := t.Calls(t.T) - before; got > n/4 {
		t.Errorf("%d lookups of one query took %d calls", n, got)
	}
}

func lookupRemembers(t *trial) {
	r := t.client()
	t.register(t.client(), t.instance("a"))
	t.watch(t.client(), t.all()).until("the instance", exactly("a"))
	if set, err := r.Lookup(t.inTime(), t.all()); err != nil || len(set) != 1 {
		t.Fatalf("Lookup returns %v", pair{set, err})
	}
	t.outage()
	var p pair
	t.eventually("Lookup returns an error", func() bool {
		set, err := r.Lookup(t.inTime(), t.all())
		p = pair{set, err}
		if len(set) != 1 {
			t.Errorf("in an outage Lookup returns %v, though an earlier one found the instance", p)
			return true
		}
		return err != nil
	})
	if stale := new(registry.StaleError); p.err != nil && !errors.As(p.err, &stale) {
		t.Errorf("the error beside the set is %v, which wraps no StaleError", p.err)
	}
}

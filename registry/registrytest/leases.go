package registrytest

import (
	"context"
	"errors"

	"github.com/rollcall-go/rollcall/registry"
)

// leases is about what a lease does after its entry was lost or replaced.
var leases = []promise{
	{
		name:      "renewal of a lost entry",
		registers: true,
		needs:     "Lose NewDriver",
		why: "Renew writes no entry that the store has lost. It runs beside Update and Release: it could bring back what those have " +
			"replaced or removed, and the loss would stay unknown.",
		check: renewalOfALostEntry,
	},
	{
		name:      "update of a lost entry",
		registers: true,
		needs:     "Lose NewDriver",
		why: "An Update of an entry that the store has lost either fails and writes nothing, or writes the entry under the same lease: " +
			"otherwise the entry is found as another registration's, and Release leaves it behind.",
		check: updateOfALostEntry,
	},
	{
		name:      "update of a replaced entry",
		registers: true,
		needs:     "NewDriver",
		why: "Update returns ErrReplaced if a newer registration has the ID, and leaves its entry. A process that was stopped for long " +
			"must not undo a deployment.",
		check: updateOfAReplacedEntry,
	},
}

func renewalOfALostEntry(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	t.stir(r, w, 1) // an empty set would be withheld
	l := t.attempt(t.driver(), t.inVersion("1"), nil)
	w.until("the entry", having("a", "1"))
	t.Lose(t.T, t.instance("a"))
	if l.TTL() > 0 { // otherwise Renew is not called
		for range 3 {
			if err := l.Renew(t.inTime()); errors.Is(err, registry.ErrReplaced) {
				t.Errorf("no other registration has the ID, and Renew returns %v", err)
			}
		}
	}
	t.wantGone(r, w, "a")
	t.release(l)
}

func updateOfALostEntry(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	t.stir(r, w, 1)
	l := t.attempt(t.driver(), t.inVersion("1"), nil)
	w.until("the entry", having("a", "1"))
	ctx, cancel := context.WithCancel(t.inTime())
	ended := waiting(ctx, l)
	t.stir(r, w, 1) // an Update may rely on what Wait has seen just before
	cancel()
	t.wantEnd("its context ended", ended, context.Canceled)
	t.Lose(t.T, t.instance("a"))
	in := t.inVersion("2")
	switch err := l.Update(t.inTime(), &in); {
	case err == nil:
		w.until("the entry that an Update has written again", having("a", "2"))
		t.wantNotReplaced("after Update has written the entry again,", l)
	case !errors.Is(err, registry.ErrUnavailable):
		t.Errorf("Update of a lost entry returns %v, want ErrUnavailable", err)
	default:
		t.wantGone(r, w, "a")
	}
	t.release(l)
	t.wantGone(r, w, "a")
}

func updateOfAReplacedEntry(t *trial) {
	d1, d2 := t.driver(), t.driver()
	r := t.client()
	w := t.watch(t.client(), t.all())
	for _, d := range []registry.Driver{d2, d1} { // in another process, and in this one
		older := t.attempt(d1, t.inVersion("older"), nil)
		w.until("the entry", having("a", "older"))
		t.attempt(d, t.inVersion("newer"), nil)
		w.until("the newer entry", having("a", "newer"))
		seen := w.count() - 1
		in := t.inVersion("updated")
		if err := older.Update(t.inTime(), &in); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("a newer registration has the ID, and Update returns %v, want ErrReplaced", err)
		}
		t.stir(r, w, 1)
		for _, p := range w.since(seen) {
			if p.version("a") != "newer" {
				t.Errorf("a newer registration has the ID, and after an Update of the older one the watch yields version %q", p.version("a"))
				break
			}
		}
	}
}

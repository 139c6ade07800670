package registrytest

import (
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// quietness is about what a client costs the store while nothing happens.
var quietness = []promise{
	{
		name:  "quiet when idle",
		needs: "Calls",
		why: "Waiting for a change costs no calls: a watch blocks at the store until there is one. A fleet that polls, or " +
			"spins on an answer that says nothing new, overloads the registry at its worst moment.",
		check: quietWhenIdle,
	},
	{
		name:  "one watch for all",
		needs: "Calls",
		why: "However many watch one query, the store is asked once: a process with a thousand channels to a service is one " +
			"blocking query.",
		check: oneWatchForAll,
	},
}

// costOfChange is the number of calls that one change of a watched service may take: the write, what the write needs to
// read before, and the watch's answer, which some stores give in two steps.
const costOfChange = 4

// calm is longer than any useful polling interval. Only time shows that no client polls: the changes of
// a small set, which are another case's clock, follow one another in milliseconds.
const calm = 2400 * time.Millisecond

func quietWhenIdle(t *trial) {
	r := t.client()
	const idle = 50
	for i := range idle {
		q := registry.Query{Service: t.name() + "-idle", Tags: []string{fmt.Sprint("tag", i)}}
		t.watch(r, q).until("a first set", known)
	}
	w := t.watch(r, t.all())
	const changes = 12
	pause := func() { time.Sleep(calm / changes) }
	t.stir(r, w, 3)
	pause() // until all watches that have a first set wait for a change
	before := t.Calls(t.T)
	for range changes {
		t.stir(r, w, 1)
		pause()
	}
	if got := t.Calls(t.T) - before; got > changes*costOfChange {
		t.Errorf("%d changes of one service took %d calls, want at most %d: watches of %d other queries, which did not change, are not quiet",
			changes, got, changes*costOfChange, idle)
	}
}

func oneWatchForAll(t *trial) {
	r := t.client()
	w := t.watch(r, t.all())
	t.stir(r, w, 2)
	before := t.Calls(t.T)
	const readers = 100
	var watches []*watcher
	for range readers {
		watches = append(watches, t.watch(r, t.all()))
	}
	for _, other := range watches {
		other.until("a first set", exactly(stirrerID))
	}
	t.stir(r, w, 2)
	for _, other := range watches {
		other.until("the change", having(stirrerID, fmt.Sprint(t.stirred)))
	}
	if got := t.Calls(t.T) - before; got > 3*costOfChange {
		t.Errorf("%d watches of one query and 2 changes took %d calls, want at most %d", readers, got, 3*costOfChange)
	}
}

package registrytest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// shrinking is about sets that lose most of their instances at once.
var shrinking = []promise{
	{
		name:      "departures are seen at once",
		registers: true,
		why: "When most instances are deregistered together, as in a deployment, watches show the smaller set promptly and without " +
			"an error: the source reports departures, or the instances were in maintenance before they went.",
		check: departuresAreSeenAtOnce,
	},
	{
		name:      "losses are withheld",
		registers: true,
		needs:     "Lose",
		why: "When the store loses most instances together, watches keep them beside an error until their owners have registered " +
			"them again: a store that was frozen must not empty a fleet that lives.",
		check: lossesAreWithheld,
	},
}

// few is how many instances the cases have. Most of them are all but one.
const few = 6

// prompt is how soon a deregistered instance has left every set. It is less than any grace period that matters, and much more than
// a store takes.
const prompt = 5 * time.Second

// registerFew registers instances with one client and watches them with another.
func (t *trial) registerFew() (all []registry.Registration, want []string, w *watcher) {
	t.Helper()
	r := t.client()
	for i := range few {
		in := t.instance(fmt.Sprint("i", i))
		want = append(want, in.ID)
		all = append(all, t.register(r, in))
	}
	w = t.watch(t.client(), t.all())
	w.until("all instances", exactly(want...))
	return all, want, w
}

func departuresAreSeenAtOnce(t *trial) {
	all, want, w := t.registerFew()
	seen := w.count()
	var leaving sync.WaitGroup
	for _, g := range all[1:] {
		leaving.Go(func() {
			if err := g.Deregister(t.inTime()); err != nil {
				t.Errorf("Deregister: %v", err)
			}
		})
	}
	leaving.Wait()
	left := time.Now()
	w.until("the set without the instances that have left", exactly(want[0]))
	if took := time.Since(left); took > prompt {
		t.Errorf("the instances that have left were in the set for another %v, want at most %v", took, prompt)
	}
	t.deregister(all[0])
	w.until("the empty set", exactly())
	for _, p := range w.since(seen) {
		if failed(p) {
			t.Errorf("all left on purpose, and the watch yielded %v", p)
		}
	}
}

func lossesAreWithheld(t *trial) {
	all, want, w := t.registerFew()
	seen := w.count()
	for _, g := range all[1:] {
		t.Lose(t.T, g.Instance())
	}
	for _, g := range all {
		t.eventually("Err is nil", func() bool { return g.Err() == nil })
	}
	r := t.client()
	t.stir(r, w, 1) // a good set from after the losses
	if p := w.last(); len(p.set) <= few {
		w.until("all instances again", exactly(append(slices.Clone(want), stirrerID)...))
	}
	for _, p := range w.since(seen) {
		if known(p) && 2*len(p.set) < few {
			t.Errorf("all %d instances live, and the watch yielded %v", few, p)
		}
	}
}

package registrytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// pair is what a watch yields at once.
type pair struct {
	set []*registry.Instance
	err error
}

// find returns the instance with that ID, or nil.
func (p pair) find(id string) *registry.Instance {
	for _, in := range p.set {
		if in.ID == id {
			return in
		}
	}
	return nil
}

func (p pair) has(id string) bool { return p.find(id) != nil }

// version returns the version of the instance with that ID, or "".
func (p pair) version(id string) string {
	if in := p.find(id); in != nil {
		return in.Version
	}
	return ""
}

func (p pair) String() string {
	s := fmt.Sprintf("%d instances: %s", len(p.set), strings.Join(ids(p.set), " "))
	if p.err != nil {
		s += ", with the error " + p.err.Error()
	}
	return s
}

func ids(set []*registry.Instance) []string {
	out := make([]string, 0, len(set))
	for _, in := range set {
		out = append(out, in.ID)
	}
	return out
}

// known is true for a pair without an error.
func known(p pair) bool { return p.err == nil }

// failed is true for a pair with an error.
func failed(p pair) bool { return p.err != nil }

// exactly is true for a good set of these IDs, in this order.
func exactly(want ...string) func(pair) bool {
	return func(p pair) bool { return p.err == nil && slices.Equal(ids(p.set), want) }
}

// having is true for a good set that has the instance in that version.
func having(id, version string) func(pair) bool {
	return func(p pair) bool { return p.err == nil && p.has(id) && p.version(id) == version }
}

// watcher reads one watch to its end, as fast as it goes, and remembers every pair.
type watcher struct {
	t     *trial
	stop  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex
	pairs []pair
	grown chan struct{} // closed when another pair was added
	read  int           // how many pairs until has gone through
}

// watch starts a watch, which is cancelled at the end of the case.
func (t *trial) watch(d registry.Discovery, q registry.Query) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{t: t, stop: cancel, ended: make(chan struct{}), grown: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for set, err := range d.Watch(ctx, q) {
			w.add(pair{set, err})
		}
	}()
	t.Cleanup(func() {
		cancel()
		if t.stuck == "" {
			t.closes("the watch that was cancelled", w.ended)
		}
	})
	return w
}

func (w *watcher) add(p pair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pairs = append(w.pairs, p)
	close(w.grown)
	w.grown = make(chan struct{})
}

// until reads on to the first pair that will do, and returns it.
func (w *watcher) until(what string, ok func(pair) bool) pair {
	w.t.Helper()
	timer := time.NewTimer(w.t.Patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		for w.read < len(w.pairs) {
			w.read++
			if p := w.pairs[w.read-1]; ok(p) {
				w.mu.Unlock()
				return p
			}
		}
		grown := w.grown
		w.mu.Unlock()
		select {
		case <-grown:
			continue
		case <-w.ended:
			if w.count() == w.read {
				w.t.Fatalf("the watch ended before it yielded %s; the last of %d pairs was %v", what, w.read, w.last())
			}
		case <-timer.C:
			w.t.Fatalf("the watch did not yield %s within %v; the last of %d pairs was %v", what, w.t.Patience, w.read, w.last())
		}
	}
}

// last returns the newest pair.
func (w *watcher) last() pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pairs) == 0 {
		return pair{}
	}
	return w.pairs[len(w.pairs)-1]
}

// count returns the number of pairs so far.
func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pairs)
}

// since returns the pairs from the n-th on.
func (w *watcher) since(n int) []pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pairs[n:])
}

// stirrerID is the instance that changes while another is looked at.
const stirrerID = "zz-stirrer"

// stir changes something else in the service that w watches, n times one after another, and returns when w has seen each
// change. It is how a case waits for what must not happen without waiting for a time to pass.
func (t *trial) stir(r registry.Registrar, w *watcher, n int) {
	t.Helper()
	for range n {
		t.stirred++
		in := t.instance(stirrerID)
		in.Version = fmt.Sprint(t.stirred)
		if t.stirrer == nil {
			t.stirrer = t.register(r, in)
		} else {
			t.update(t.stirrer, in)
		}
		w.until("a later change of another instance", having(stirrerID, in.Version))
	}
}

// wantGone fails unless the instances have left the set of w, at most a few changes late, and stay away.
func (t *trial) wantGone(r registry.Registrar, w *watcher, ids ...string) {
	t.Helper()
	present := func(p pair) bool { return slices.ContainsFunc(ids, p.has) }
	t.stir(r, w, 1)
	for late := 0; present(w.last()); late++ {
		if late == 8 {
			t.Errorf("%d changes after %q should have gone, the watch yields %v", late, ids, w.last())
			return
		}
		t.stir(r, w, 1)
	}
	gone := w.count()
	t.stir(r, w, 3)
	if i := slices.IndexFunc(w.since(gone), present); i >= 0 {
		t.Errorf("%q had gone, and then the watch yielded %v", ids, w.since(gone)[i])
	}
}

// wantKept fails if a pair from the n-th on has an error, or does not have the instance exactly once.
func (w *watcher) wantKept(n int, id string) {
	w.t.Helper()
	for _, p := range w.since(n) {
		copies := 0
		for _, in := range p.set {
			if in.ID == id {
				copies++
			}
		}
		if p.err != nil || copies != 1 {
			w.t.Errorf("%s must be there once all the time, but the watch yielded %v", id, p)
			return
		}
	}
}

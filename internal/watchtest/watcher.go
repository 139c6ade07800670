package watchtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Pair is what a watch yields at one time.
type Pair struct {
	Set []*registry.Instance
	Err error
	At  time.Time
}

// String returns the set as ID@VERSION/STATUS, and the error.
func (p Pair) String() string {
	var b strings.Builder
	for _, in := range p.Set {
		fmt.Fprintf(&b, "%s@%s/%v ", in.ID, in.Version, in.Status)
	}
	return fmt.Sprintf("[%s] %v", strings.TrimSpace(b.String()), p.Err)
}

// IDs returns the IDs of the set.
func (p Pair) IDs() []string { return IDs(p.Set) }

// Find returns the instance with an ID, or nil.
func (p Pair) Find(id string) *registry.Instance {
	i := slices.IndexFunc(p.Set, func(in *registry.Instance) bool { return in.ID == id })
	if i < 0 {
		return nil
	}
	return p.Set[i]
}

// Watcher collects what a watch yields.
type Watcher struct {
	t    testing.TB
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	pairs   []Pair
	changed chan struct{} // closed, and replaced, with each pair
}

// Watch starts a watch in a goroutine. It ends with Stop, with the test, or with the Registry.
func Watch(t testing.TB, d registry.Discovery, q registry.Query) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{t: t, stop: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(w.done)
		for set, err := range d.Watch(ctx, q) {
			w.add(Pair{set, err, time.Now()})
		}
	}()
	t.Cleanup(w.Stop)
	return w
}

func (w *Watcher) add(p Pair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pairs = append(w.pairs, p)
	close(w.changed)
	w.changed = make(chan struct{})
}

// Stop ends the watch and blocks until it has ended.
func (w *Watcher) Stop() {
	w.stop()
	<-w.done
}

// Done is closed when the watch has ended.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// All returns every pair so far.
func (w *Watcher) All() []Pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pairs)
}

// Last returns the newest pair. It fails the test if there is none.
func (w *Watcher) Last() Pair {
	w.t.Helper()
	all := w.All()
	if len(all) == 0 {
		w.t.Fatal("the watch has yielded nothing")
	}
	return all[len(all)-1]
}

// Until blocks until the newest pair is as wanted, and returns that pair. After [Timeout] it fails the test, and names what it has
// waited for.
func (w *Watcher) Until(what string, ok func(Pair) bool) Pair {
	w.t.Helper()
	timeout := time.NewTimer(Timeout)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		n, changed := len(w.pairs), w.changed
		var last Pair
		if n > 0 {
			last = w.pairs[n-1]
		}
		w.mu.Unlock()
		if n > 0 && ok(last) {
			return last
		}
		select {
		case <-changed:
		case <-timeout.C:
			w.t.Fatalf("waited %v for %s; the last of %d pairs is %v", Timeout, what, n, last)
		}
	}
}

// Healthy reports of a pair whether it has n instances and no error.
func Healthy(n int) func(Pair) bool {
	return func(p Pair) bool { return p.Err == nil && len(p.Set) == n }
}

// At reports of a pair whether it has no error and instances at exactly these addresses, in any order.
func At(addresses ...string) func(Pair) bool {
	want := slices.Sorted(slices.Values(addresses))
	return func(p Pair) bool {
		var got []string
		for _, in := range p.Set {
			got = append(got, in.Address)
		}
		slices.Sort(got)
		return p.Err == nil && slices.Equal(got, want)
	}
}

// IDs returns the IDs of a set, in its order.
func IDs(set []*registry.Instance) []string {
	ids := []string{}
	for _, in := range set {
		ids = append(ids, in.ID)
	}
	return ids
}

// WantIDs reports an error unless the set has exactly these IDs, in this order.
func WantIDs(t testing.TB, set []*registry.Instance, want ...string) {
	t.Helper()
	if got := IDs(set); !slices.Equal(got, want) {
		t.Errorf("the set is %q, want %q", got, want)
	}
}

// Within returns a context that ends after a time, or with the test.
func Within(t testing.TB, timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

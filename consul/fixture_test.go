package consul

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// patience bounds what must happen. It is spent in full only where a test fails.
const patience = 60 * time.Second

// slack is how many times as long as it is promised something may take, on a machine that is busy with other tests.
const slack = 3

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open returns a client that is closed with the test, if not before.
func open(t testing.TB, c Config) *registry.Registry {
	t.Helper()
	c.Options.Logger = discard()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// operatorOf returns a client of Consul itself.
func operatorOf(t testing.TB, agent *testbed.Consul) *api.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true} // it must not look like something left running
	client, err := api.NewClient(&api.Config{Address: agent.Addr(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and still not: %s", patience, what)
		}
	}
}

// watcher collects what a watch yields.
type watcher struct {
	t testing.TB

	mu      sync.Mutex
	pairs   []pair
	changed chan struct{} // closed, and replaced, with each pair
}

type pair struct {
	set []*registry.Instance
	err error
}

func (p pair) String() string {
	var b strings.Builder
	for _, in := range p.set {
		fmt.Fprintf(&b, "%s@%s/%v ", in.ID, in.Version, in.Status)
	}
	return fmt.Sprintf("[%s] %v", strings.TrimSpace(b.String()), p.err)
}

func (p pair) find(id string) *registry.Instance {
	i := slices.IndexFunc(p.set, func(in *registry.Instance) bool { return in.ID == id })
	if i < 0 {
		return nil
	}
	return p.set[i]
}

// watch starts a watch that ends with the test.
func watch(t testing.TB, r registry.Discovery, q registry.Query) *watcher {
	t.Helper()
	w := &watcher{t: t, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for set, err := range r.Watch(ctx, q) {
			w.mu.Lock()
			w.pairs = append(w.pairs, pair{set, err})
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits until the newest pair is as wanted, and returns it.
func (w *watcher) until(what string, ok func(pair) bool) pair {
	w.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		var last pair
		if len(w.pairs) > 0 {
			last = w.pairs[len(w.pairs)-1]
			if ok(last) {
				w.mu.Unlock()
				return last
			}
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			w.t.Fatalf("waited %v for %s; the last pair is %v", patience, what, last)
		}
	}
}

// all returns every pair so far.
func (w *watcher) all() []pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pairs)
}

func healthy(n int) func(pair) bool {
	return func(p pair) bool { return p.err == nil && len(p.set) == n }
}

func register(t testing.TB, r registry.Registrar, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(within(t, patience), in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func update(t testing.TB, g registry.Registration, change func(*registry.Instance)) {
	t.Helper()
	in := g.Instance()
	change(&in)
	if err := g.Update(within(t, patience), in); err != nil {
		t.Fatal(err)
	}
}

func isBlocking(r *http.Request) bool { return r.URL.Query().Has("index") }

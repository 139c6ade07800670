package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// patience bounds what must happen. It is spent in full only where a test fails.
const patience = 60 * time.Second

// connect returns a client that is closed with the test, if not before.
func connect(t testing.TB, c Config) *registry.Registry { return openWith(t, c) }

func openWith(t testing.TB, c Config, o ...grpc.DialOption) *registry.Registry {
	t.Helper()
	c.Options.Logger = slog.New(slog.DiscardHandler)
	d := driverFor(t, c, o...)
	r := registry.New(d, c.Options)
	t.Cleanup(func() { r.Close() })
	return r
}

// driverFor returns a driver that whoever asked for it closes.
func driverFor(t testing.TB, c Config, o ...grpc.DialOption) *driver {
	t.Helper()
	d, err := newDriver(c, o...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// operatorOf returns etcd's own client, closed with the test.
func operatorOf(t testing.TB, server *testbed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// Connected from here on, so that a test which looks for what was left running does not find that.
	if _, err := c.Get(within(t, patience), "x"); err != nil {
		t.Fatal(err)
	}
	return c
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

// follow starts a watch that ends with the test.
func follow(t testing.TB, r registry.Discovery, q registry.Query) *watcher {
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

// wantKind also holds an error to what every error of the driver promises.
func wantKind(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
		return
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ok := e.(interface{ GRPCStatus() *status.Status }); ok {
			t.Errorf("a gRPC status leaks: %v", err)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("it shows the secret: %v", err)
	}
}

const secret = "s3cret"

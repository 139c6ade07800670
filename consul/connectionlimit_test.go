package consul

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const watchCount = 360

// manyWatches watches the services c-0, c-1 and so on, of one instance each. The port of an instance is the number of its changes.
type manyWatches struct {
	t        testing.TB
	operator *api.Client
	watchers []*watchtest.Watcher
	dials    atomic.Int64
	log      lockedBuffer
}

func watchMany(t testing.TB, agent *testbed.Consul, c Config, n int) *manyWatches {
	t.Helper()
	w := &manyWatches{t: t, operator: keptAlive(t, agent)}
	for i := range n {
		w.change(i, 1)
	}
	dialer := agentpkg.NewDialer()
	dialer.Control = func(string, string, syscall.RawConn) error {
		w.dials.Add(1)
		return nil
	}
	d, err := dialWith(dialer, c)
	if err != nil {
		t.Fatal(err)
	}
	r := watchtest.NewRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	for i := range n {
		w.watchers = append(w.watchers, watchtest.Watch(t, r, registry.Query{Service: w.service(i)}))
	}
	for i := range n {
		w.until(i, 1)
	}
	return w
}

func (w *manyWatches) service(i int) string { return fmt.Sprintf("c-%d", i) }

func (w *manyWatches) change(i, port int) {
	w.t.Helper()
	if err := w.operator.Agent().ServiceRegister(foreign(w.service(i), port)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *manyWatches) until(i, port int) {
	w.t.Helper()
	want := fmt.Sprintf("127.0.0.1:%d", port)
	w.watchers[i].Until(w.service(i)+" at "+want, func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Address == want })
}

// changeSome changes every third service, and returns how long each watch took to see it, in order.
func (w *manyWatches) changeSome(port int) []time.Duration {
	var work sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	for i := 0; i < len(w.watchers); i += 3 {
		w.change(i, port)
		began := time.Now()
		work.Go(func() {
			w.until(i, port)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
	}
	work.Wait()
	slices.Sort(took)
	return took
}

func (w *manyWatches) wantNoError() {
	w.t.Helper()
	for i, seen := range w.watchers {
		for _, p := range seen.All() {
			if p.Err != nil || len(p.Set) != 1 {
				w.t.Errorf("%s had %v", w.service(i), p)
			}
		}
	}
}

// keptAlive is operatorOf with one connection for all of its calls.
func keptAlive(t testing.TB, agent *testbed.Consul) *api.Client {
	t.Helper()
	transport := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := api.NewClient(&api.Config{Address: agent.Addr(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// wantHints checks how often the log says that TLS would help.
func (w *manyWatches) wantHints(n int) {
	w.t.Helper()
	if got := strings.Count(w.log.String(), string(agentpkg.ErrWatchesQueue)); got != n {
		w.t.Errorf("the log recommends TLS %d times, want %d:\n%.2000s", got, n, w.log.String())
	}
}

// The agent accepts 200 connections from one address. More than 200 watches share these connections without an error.
func TestWatch_SharesConnectionsAmongManyWatches(t *testing.T) {
	agent := testbed.StartConsul(t)
	w := watchMany(t, agent, Config{Address: agent.Addr()}, watchCount)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	took = w.changeSome(3)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	w.wantNoError()
	w.wantHints(1)
}

// A process may register more instances than the agent accepts connections, beside its watches. All stay registered: the entry watches
// take turns, so an entry that an operator removes comes back, and heartbeats do not wait.
func TestRegister_SharesConnectionsAmongManyInstances(t *testing.T) {
	agent := testbed.StartConsul(t)
	const registered, watched = 300, 100
	w := watchMany(t, agent, Config{Address: agent.Addr()}, watched)
	w.wantHints(0)
	var log bytes.Buffer
	d, err := newDriver(Config{Address: agent.Addr(), TTL: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := watchtest.NewRegistry(t, d, registry.Options{
		Logger:       slog.New(slog.NewTextHandler(&log, nil)),
		CloseTimeout: watchtest.Timeout, // how long it takes is not tested
	})
	t.Cleanup(func() { r.Close() })
	var work sync.WaitGroup
	for i := range registered {
		work.Go(func() {
			in := registry.Instance{ID: fmt.Sprint(i), Service: "many", Address: fmt.Sprintf("127.0.0.1:%d", 1000+i)}
			if _, err := r.Register(watchtest.Context(t), in); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	all := watchtest.Watch(t, r, registry.Query{Service: "many"})
	all.Until("all instances", watchtest.Healthy(registered))
	for _, i := range []int{0, registered / 2, registered - 1} {
		if err := w.operator.Agent().ServiceDeregister(fmt.Sprintf("many:%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	watchtest.Eventually(t, "all entries are back", func() bool {
		entries, err := w.operator.Agent().Services()
		return err == nil && len(entries) == registered+watched
	})
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	w.wantNoError()
	began := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d instances were deregistered in %v", registered, time.Since(began))
	if s := log.String(); strings.Contains(s, "429") {
		t.Errorf("the agent has refused calls: %.2000s", s)
	}
}

// Other programs on the host use more than half of the connections. If the agent refuses a connection, the client uses fewer, and every
// change still arrives.
func TestWatch_SharesConnectionsWithOtherPrograms(t *testing.T) {
	t.Parallel()
	const watched, others = 200, 110
	agent := testbed.StartConsul(t)
	for range others {
		c, err := net.Dial("tcp", agent.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	w := watchMany(t, agent, Config{Address: agent.Addr()}, watched)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	refused := map[string]int{}
	for i, seen := range w.watchers {
		for _, p := range seen.All() {
			if p.Err != nil {
				refused[strings.ReplaceAll(p.Err.Error(), w.service(i), "x")]++
			} else if len(p.Set) != 1 {
				t.Errorf("%s had %v", w.service(i), p)
			}
		}
	}
	t.Logf("refusals: %v", refused)
	if len(refused) == 0 {
		t.Error("the agent has refused no call, so this test shows nothing")
	}
}

// Over TLS, one connection carries all watches.
func TestWatch_SharesAFewConnectionsOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue("consul.test", dir+"/server.pem", dir+"/key.pem")
	port := freePort(t)
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: fmt.Sprintf("ports { https = %d }\ntls { https { cert_file = %q, key_file = %q } }",
		port, dir+"/server.pem", dir+"/key.pem")})
	w := watchMany(t, agent, Config{Address: fmt.Sprintf("https://127.0.0.1:%d", port), TLS: TLS{CAFile: ca.file}}, watchCount)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most, on %d connections", len(took), took[len(took)/2], took[len(took)-1], w.dials.Load())
	w.wantNoError()
	w.wantHints(0)
	// Two connections are enough, but the first reads may all dial before the client knows that the agent speaks HTTP/2.
	if n := w.dials.Load(); n > watchCount/4 {
		t.Errorf("there were %d connections", n)
	}
}

// leaveOneBriefSlot takes all slots for watches but one, for which another watch has just queued.
func leaveOneBriefSlot(t *testing.T, l *agentpkg.Limiter) {
	t.Helper()
	var last agentpkg.Slot
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		slot, err := l.Acquire(ctx, agentpkg.Watch)
		cancel()
		if err != nil {
			last.Release(0, 0)
			return
		}
		last = slot
	}
}

// If many watches share slots, each reads more often, but still confirms the set once in a Wait.
func TestNext_ConfirmsOnceAWaitInBriefSlots(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		mu.Lock()
		asked = append(asked, q.Get("index")+" "+q.Get("wait"))
		mu.Unlock()
		if q.Has("index") {
			sleep.For(r.Context(), agentpkg.BriefWait)
		}
		w.Header().Set("X-Consul-Index", "10")
		fmt.Fprint(w, set("10", "a").body)
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL, Wait: 9 * agentpkg.BriefWait / 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	leaveOneBriefSlot(t, d.agent.Limiter)
	src := d.Watch(registry.Query{Service: "s"})
	if got := next(t, src) + next(t, src); got != "aa" {
		t.Errorf("got %q", got)
	}
	last := len(asked) - 1
	if last < 3 || asked[0] != " " || asked[last] != " " || slices.ContainsFunc(asked[1:last], func(s string) bool { return s != "10 1000ms" }) {
		t.Errorf("it asked %q", asked)
	}
}

package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_OnAnAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*testing.T, *testbed.Consul){
		"answers that say nothing":            testNoWrongSet,
		"a thousand watchers":                 testAThousandWatchers,
		"queries are not reissued":            testQueriesAreNotReissued,
		"names that differ in case":           testNamesThatDifferInCase,
		"quiet":                               testOneProbeAWait,
		"an entry that another program wrote": testForeignEntryIsSeen,
		"a datacenter that there is not":      testUnknownDatacenter,
		"more metadata than Consul has room":  testTooMuchMetadata,
	} {
		t.Run(name, func(t *testing.T) { test(t, agent) })
	}
}

// uniqueService returns a name that no other test uses.
func uniqueService() string { return fmt.Sprintf("s-%d", time.Now().UnixNano()) }

func testNoWrongSet(t *testing.T, agent *testbed.Consul) {
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	writer := open(t, Config{Address: agent.Addr()})
	g := watchtest.Register(t, writer, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80", Version: "0"})
	defer g.Deregister(watchtest.Context(t))
	w := watchtest.Watch(t, open(t, Config{Address: proxy.Addr()}), q)
	w.Until("the instance", watchtest.Healthy(1))

	header := func(name, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-Index", "1000000")
			if w.Header().Set(name, value); value == "" {
				w.Header().Del(name)
			}
			fmt.Fprint(w, body)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "out of order", code) }
	}
	wrong := `[{"Node":{},"Service":{"ID":"wrong","Service":"` + q.Service + `"}}]`
	for i, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   error  // nil if any error will do, or none
		why    string // in the error
	}{
		{"index 1", header("X-Consul-Index", "1", "[]"), registry.ErrUnavailable, "index 1, which no catalog has"},
		{"backward index", header("X-Consul-Index", "2", wrong), nil, ""},
		{"garbage index", header("X-Consul-Index", "soon", wrong), registry.ErrUnavailable, "index 0, which no catalog has"},
		{"no index", header("X-Consul-Index", "", wrong), registry.ErrUnavailable, "index 0, which no catalog has"},
		{"cut by ACLs", header("X-Consul-Results-Filtered-By-ACLs", "true", "[]"), registry.ErrDenied, "service:read and node:read"},
		{"truncated", header("Content-Length", "5000", wrong[:20]), registry.ErrUnavailable, "unexpected EOF"},
		{"malformed", header("Content-Type", "application/json", "<html>"), registry.ErrUnavailable, "not a JSON array"},
		{"a web page", header("Content-Type", "text/html", "<html>"), registry.ErrUnavailable, "is not Consul"},
		{"500", status(500), registry.ErrUnavailable, "HTTP status 500: out of order"},
		{"429", status(429), registry.ErrUnavailable, "HTTP status 429: out of order"},
	} {
		var given atomic.Int64
		proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			// This set could be true for a read without an index, so only the other reads get the wrong answer.
			if !strings.HasPrefix(r.URL.Path, "/v1/health/service/") || c.want == nil && !isBlocking(r) {
				return false
			}
			given.Add(1)
			c.answer(w, r)
			return true
		})
		// The read in flight gets a true answer, and the next ones do not.
		version := fmt.Sprint(i + 1)
		watchtest.Update(t, g, func(in *registry.Instance) { in.Version = version })
		watchtest.Eventually(t, c.name+" was answered twice", func() bool { return given.Load() >= 2 })
		if c.want != nil {
			w.Until("an error for "+c.name, func(p watchtest.Pair) bool { return errors.Is(p.Err, c.want) && strings.Contains(p.Err.Error(), c.why) })
		}
		proxy.Heal()
		w.Until("health after "+c.name, watchtest.Healthy(1))
		watchtest.Update(t, g, func(in *registry.Instance) { in.Zone = version })
		w.Until("a change after "+c.name, func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Zone == version })
	}
	for _, p := range w.All() {
		if len(p.Set) != 1 || p.Set[0].ID != "a" {
			t.Errorf("it published %v", p)
		}
	}
}

func testAThousandWatchers(t *testing.T, agent *testbed.Consul) {
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	writer := open(t, Config{Address: agent.Addr()})
	r := open(t, Config{Address: proxy.Addr()})
	var first, second sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	const watchers = 1000
	first.Add(watchers)
	second.Add(watchers)
	for range watchers {
		work.Go(func() {
			seen := 0
			for set, err := range r.Watch(ctx, q) {
				switch {
				case err != nil:
					t.Errorf("a watch reports %v", err)
				case seen == 0:
					first.Done()
				case len(set) == 1:
					second.Done()
				}
				seen++
			}
		})
	}
	first.Wait()
	watchtest.Eventually(t, "one query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	before := proxy.Requests()
	g := watchtest.Register(t, writer, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	second.Wait()
	watchtest.Eventually(t, "one query waits again", func() bool { return proxy.InFlight(nil) == 1 && proxy.InFlight(isBlocking) == 1 })
	if got := proxy.Requests() - before; got > 2 {
		t.Errorf("one change took %d reads", got)
	}
	cancel()
	work.Wait()
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

func testQueriesAreNotReissued(t *testing.T, agent *testbed.Consul) {
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	r := open(t, Config{Address: proxy.Addr()})
	for range 100 {
		for _, err := range r.Watch(t.Context(), q) {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if _, err := r.Lookup(t.Context(), q); err != nil {
			t.Error(err)
		}
	}
	watchtest.Eventually(t, "the query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	if got := proxy.Requests(); got != 2 {
		t.Errorf("100 watches that began and ended made %d requests, want a read and a read that waits", got)
	}
}

func testNamesThatDifferInCase(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	lower := uniqueService()
	upper := strings.ToUpper(lower)
	for _, service := range []string{lower, upper} {
		for _, id := range []string{"a", "A"} {
			defer watchtest.Register(t, r, registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80"}).Deregister(watchtest.Context(t))
		}
	}
	for _, service := range []string{lower, upper} {
		p := watchtest.Watch(t, r, registry.Query{Service: service}).Until("both", watchtest.Healthy(2))
		if p.Find("a") == nil || p.Find("A") == nil {
			t.Errorf("%s has %v", service, p)
		}
	}
}

func testOneProbeAWait(t *testing.T, agent *testbed.Consul) {
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	w := watchtest.Watch(t, open(t, Config{Address: proxy.Addr(), Wait: minWait}), q)
	w.Until("the first set", watchtest.Healthy(0))
	watchtest.Eventually(t, "three waits have ended", func() bool { return proxy.Requests() >= 7 })
	blocking := 0
	log := proxy.Log()
	for i, r := range log {
		if r.Query.Has("index") {
			blocking++
			if i > 0 && log[i-1].Query.Has("index") {
				t.Error("after a wait that ended without a change there was no read to confirm the set")
			}
		}
	}
	if blocking < 3 || len(w.All()) != 1 {
		t.Errorf("%d waits, and the watch yielded %v", blocking, w.All())
	}
}

func testForeignEntryIsSeen(t *testing.T, agent *testbed.Consul) {
	operator := operatorOf(t, agent)
	q := registry.Query{Service: uniqueService()}
	if err := operator.Agent().ServiceRegister(foreign(q.Service, 81)); err != nil {
		t.Fatal(err)
	}
	p := watchtest.Watch(t, open(t, Config{Address: agent.Addr()}), q).Until("the entry", watchtest.Healthy(1))
	want := &registry.Instance{ID: q.Service, Service: q.Service, Address: "127.0.0.1:81", Weight: 1}
	if !p.Set[0].Equal(want) {
		t.Errorf("got %+v, want %+v", p.Set[0], want)
	}
	if err := operator.Agent().ServiceDeregister(q.Service); err != nil {
		t.Error(err)
	}
}

func testUnknownDatacenter(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr(), Datacenter: "nowhere"})
	set, err := r.Lookup(watchtest.Context(t), registry.Query{Service: "s"})
	if set != nil || !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "datacenter") {
		t.Errorf("got %v, %v", set, err)
	}
}

func testTooMuchMetadata(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Metadata: map[string]string{}}
	for i := range 200 {
		in.Metadata[fmt.Sprintf("key %d", i)] = strings.Repeat("é", 50)
	}
	g := watchtest.Register(t, r, in)
	p := watchtest.Watch(t, r, registry.Query{Service: in.Service}).Until("the instance", watchtest.Healthy(1))
	want := g.Instance()
	if !p.Set[0].Equal(&want) {
		t.Errorf("got %+v", p.Set[0])
	}
	for i := range 200 {
		in.Metadata[fmt.Sprintf("key %d", i)] = strings.Repeat("é", 100)
	}
	in.Status = registry.Critical
	if err := g.Update(watchtest.Context(t), in); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("with more than Consul has room for, Update returns %v", err)
	}
	if set, err := open(t, Config{Address: agent.Addr()}).Lookup(t.Context(), registry.Query{Service: in.Service}); err != nil || len(set) != 1 {
		t.Errorf("after an Update that was refused there is %v, %v", set, err)
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

// The server is wiped during a watch. A proxy sends the waiting read to the new server, so only the index shows that the store began again.
func TestNext_ReadsAgainIfTheStoreBeganAgain(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]int{"with nothing": 0, "with one of three": 1} {
		t.Run(name, func(t *testing.T) { testStoreBeginsAgain(t, back) })
	}
}

// testStoreBeginsAgain registers that many instances again before the watch learns of the new store.
func testStoreBeginsAgain(t *testing.T, back int) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	put := func(service string, port int) {
		t.Helper()
		s := foreign(service, port)
		s.ID = fmt.Sprint(service, port)
		if err := operator.Agent().ServiceRegister(s); err != nil {
			t.Fatal(err)
		}
	}
	for port := range 50 { // so that the index of the wiped store is lower for long
		put("other", port+1)
	}
	const before = 3
	for i := range before {
		put("s", 80+i)
	}
	w := watchtest.Watch(t, open(t, Config{Address: proxy.Addr(), Wait: 2 * minWait}), registry.Query{Service: "s"})
	w.Until("the instances", watchtest.Healthy(before))

	proxy.Hang() // its connection to the server breaks, and its connection to the client does not
	agent.Restart(false)
	for i := range back {
		put("s", 90+i)
	}
	watchtest.Eventually(t, "the catalog has them", func() bool {
		entries, _, err := operator.Health().Service("s", "", true, nil)
		return err == nil && len(entries) == back
	})
	proxy.Heal()
	p := w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	if len(p.Set) != before {
		t.Errorf("beside the error the set is %v", p)
	}
	for i := back; i < before; i++ {
		put("s", 90+i)
	}
	p = w.Until("the new instances", func(p watchtest.Pair) bool { return watchtest.Healthy(before)(p) && p.Find("s90") != nil })
	if p.Set[0].Address != "127.0.0.1:90" {
		t.Errorf("got %v", p.Set[0].Address)
	}
	for _, p := range w.All()[slices.IndexFunc(w.All(), watchtest.Healthy(before)):] {
		if 2*len(p.Set) < before { // which package registry withholds
			t.Errorf("it published %v", p)
		}
	}
}

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
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatchOnAnAgent(t *testing.T) {
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*testing.T, *testbed.Consul){
		"answers that say nothing":           testNoWrongSet,
		"a thousand watchers":                testAThousandWatchers,
		"queries are not reissued":           testQueriesAreNotReissued,
		"names that differ in case":          testNamesThatDifferInCase,
		"quiet":                              testOneProbeAWait,
		"an entry that somebody else wrote":  testForeignEntryIsSeen,
		"a datacenter that there is not":     testUnknownDatacenter,
		"more metadata than Consul has room": testTooMuchMetadata,
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
	g := register(t, writer, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80", Version: "0"})
	defer g.Deregister(within(t, patience))
	w := watch(t, open(t, Config{Address: proxy.Addr()}), q)
	w.until("the instance", healthy(1))

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
		want   error  // nil where it is enough that nothing wrong is believed
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
			// Where a wrong set would be the truth of an index-less read, only the others are answered wrongly.
			if !strings.HasPrefix(r.URL.Path, "/v1/health/service/") || c.want == nil && !isBlocking(r) {
				return false
			}
			given.Add(1)
			c.answer(w, r)
			return true
		})
		// The query in flight is answered truly, and the next ones are not.
		version := fmt.Sprint(i + 1)
		update(t, g, func(in *registry.Instance) { in.Version = version })
		eventually(t, c.name+" was answered twice", func() bool { return given.Load() >= 2 })
		if c.want != nil {
			w.until("an error for "+c.name, func(p pair) bool { return errors.Is(p.err, c.want) && strings.Contains(p.err.Error(), c.why) })
		}
		proxy.Heal()
		w.until("health after "+c.name, healthy(1))
		update(t, g, func(in *registry.Instance) { in.Zone = version })
		w.until("a change after "+c.name, func(p pair) bool { return healthy(1)(p) && p.set[0].Zone == version })
	}
	for _, p := range w.all() {
		if len(p.set) != 1 || p.set[0].ID != "a" {
			t.Errorf("it believed %v", p)
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
	eventually(t, "one query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	before := proxy.Requests()
	g := register(t, writer, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	second.Wait()
	eventually(t, "one query waits again", func() bool { return proxy.InFlight(nil) == 1 && proxy.InFlight(isBlocking) == 1 })
	if got := proxy.Requests() - before; got > 2 {
		t.Errorf("one change took %d reads", got)
	}
	cancel()
	work.Wait()
	if err := g.Deregister(within(t, patience)); err != nil {
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
	eventually(t, "the query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	if got := proxy.Requests(); got != 2 {
		t.Errorf("100 watches that came and went made %d requests, want one to read and one that waits", got)
	}
}

func testNamesThatDifferInCase(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	lower := uniqueService()
	upper := strings.ToUpper(lower)
	for _, service := range []string{lower, upper} {
		for _, id := range []string{"a", "A"} {
			defer register(t, r, registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80"}).Deregister(within(t, patience))
		}
	}
	for _, service := range []string{lower, upper} {
		p := watch(t, r, registry.Query{Service: service}).until("both", healthy(2))
		if p.find("a") == nil || p.find("A") == nil {
			t.Errorf("%s has %v", service, p)
		}
	}
}

func testOneProbeAWait(t *testing.T, agent *testbed.Consul) {
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	w := watch(t, open(t, Config{Address: proxy.Addr(), Wait: minWait}), q)
	w.until("the first set", healthy(0))
	eventually(t, "three waits have ended", func() bool { return proxy.Requests() >= 7 })
	blocking := 0
	log := proxy.Log()
	for i, r := range log {
		if r.Query.Has("index") {
			blocking++
			if i > 0 && log[i-1].Query.Has("index") {
				t.Error("a wait that ended without a change was not followed by a probe")
			}
		}
	}
	if blocking < 3 || len(w.all()) != 1 {
		t.Errorf("%d waits, and the watch yielded %v", blocking, w.all())
	}
}

func testForeignEntryIsSeen(t *testing.T, agent *testbed.Consul) {
	operator := operatorOf(t, agent)
	q := registry.Query{Service: uniqueService()}
	if err := operator.Agent().ServiceRegister(foreign(q.Service, 81)); err != nil {
		t.Fatal(err)
	}
	p := watch(t, open(t, Config{Address: agent.Addr()}), q).until("the entry", healthy(1))
	want := &registry.Instance{ID: q.Service, Service: q.Service, Address: "127.0.0.1:81", Weight: 1}
	if !p.set[0].Equal(want) {
		t.Errorf("got %+v, want %+v", p.set[0], want)
	}
	if err := operator.Agent().ServiceDeregister(q.Service); err != nil {
		t.Error(err)
	}
}

func testUnknownDatacenter(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr(), Datacenter: "nowhere"})
	set, err := r.Lookup(within(t, patience), registry.Query{Service: "s"})
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
	g := register(t, r, in)
	p := watch(t, r, registry.Query{Service: in.Service}).until("the instance", healthy(1))
	want := g.Instance()
	if !p.set[0].Equal(&want) {
		t.Errorf("got %+v", p.set[0])
	}
	for i := range 200 {
		in.Metadata[fmt.Sprintf("key %d", i)] = strings.Repeat("é", 100)
	}
	in.Status = registry.Critical
	if err := g.Update(within(t, patience), in); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("with more than Consul has room for, Update returns %v", err)
	}
	if set, err := open(t, Config{Address: agent.Addr()}).Lookup(t.Context(), registry.Query{Service: in.Service}); err != nil || len(set) != 1 {
		t.Errorf("after an Update that was refused there is %v, %v", set, err)
	}
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// TestStoreBeginsAgain wipes the server under a watch behind a proxy that asks the new one the old question, so that
// nothing but the index tells.
func TestStoreBeginsAgain(t *testing.T) {
	for name, back := range map[string]int{"with nothing": 0, "with one of three": 1} {
		t.Run(name, func(t *testing.T) { testStoreBeginsAgain(t, back) })
	}
}

// testStoreBeginsAgain has that many instances back before the watch hears of it.
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
	w := watch(t, open(t, Config{Address: proxy.Addr(), Wait: 2 * minWait}), registry.Query{Service: "s"})
	w.until("the instances", healthy(before))

	proxy.Hang() // its connection to the server breaks, but not that to the client
	agent.Restart(false)
	for i := range back {
		put("s", 90+i)
	}
	eventually(t, "the catalog has them", func() bool {
		entries, _, err := operator.Health().Service("s", "", true, nil)
		return err == nil && len(entries) == back
	})
	proxy.Heal()
	p := w.until("doubt", func(p pair) bool { return p.err != nil })
	if len(p.set) != before {
		t.Errorf("beside the doubt is %v", p)
	}
	for i := back; i < before; i++ {
		put("s", 90+i)
	}
	p = w.until("the new instances", func(p pair) bool { return healthy(before)(p) && p.find("s90") != nil })
	if p.set[0].Address != "127.0.0.1:90" {
		t.Errorf("got %v", p.set[0].Address)
	}
	for _, p := range w.all()[slices.IndexFunc(w.all(), healthy(before)):] {
		if 2*len(p.set) < before { // which is what package registry doubts
			t.Errorf("it believed %v", p)
		}
	}
}

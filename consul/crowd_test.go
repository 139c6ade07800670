package consul

import (
	"bytes"
	"context"
	"errors"
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
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

const crowdSize = 360

// crowdOf watches services c-0, c-1 and so on, of one instance each. The port of that says how often it was changed.
type crowdOf struct {
	t        testing.TB
	operator *api.Client
	watchers []*watcher
	dials    atomic.Int64
}

func watchCrowd(t testing.TB, agent *testbed.Consul, c Config, n int) *crowdOf {
	t.Helper()
	w := &crowdOf{t: t, operator: keptAlive(t, agent)}
	for i := range n {
		w.change(i, 1)
	}
	dialer := newDialer()
	dialer.Control = func(string, string, syscall.RawConn) error {
		w.dials.Add(1)
		return nil
	}
	d, err := dialWith(dialer, c)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(d, registry.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { r.Close() })
	for i := range n {
		w.watchers = append(w.watchers, watch(t, r, registry.Query{Service: w.service(i)}))
	}
	for i := range n {
		w.until(i, 1)
	}
	return w
}

func (w *crowdOf) service(i int) string { return fmt.Sprintf("c-%d", i) }

func (w *crowdOf) change(i, port int) {
	w.t.Helper()
	if err := w.operator.Agent().ServiceRegister(foreign(w.service(i), port)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *crowdOf) until(i, port int) {
	w.t.Helper()
	want := fmt.Sprintf("127.0.0.1:%d", port)
	w.watchers[i].until(w.service(i)+" at "+want, func(p pair) bool { return healthy(1)(p) && p.set[0].Address == want })
}

// changeSome changes every third service, and returns how long each watch took to see it, in order.
func (w *crowdOf) changeSome(port int) []time.Duration {
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

func (w *crowdOf) wantNoError() {
	w.t.Helper()
	for i, seen := range w.watchers {
		for _, p := range seen.all() {
			if p.err != nil || len(p.set) != 1 {
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

// The agent takes 200 connections from one address. More watches than that share what there is, without an error.
func TestACrowdOfWatches(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	w := watchCrowd(t, agent, Config{Address: agent.Addr()}, crowdSize)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	took = w.changeSome(3)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	w.wantNoError()
}

// A process that has announced more instances than an agent takes connections holds them all, beside its watches: each guard
// has its turn, so that an entry that an operator removes is back, and heartbeats wait for nobody.
func TestACrowdOfAnnouncements(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	const announced, watched = 300, 100
	w := watchCrowd(t, agent, Config{Address: agent.Addr()}, watched)
	var log bytes.Buffer
	d, err := newDriver(Config{Address: agent.Addr(), TTL: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(d, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	t.Cleanup(func() { r.Close() })
	var work sync.WaitGroup
	for i := range announced {
		work.Go(func() {
			in := registry.Instance{ID: fmt.Sprint(i), Service: "many", Address: fmt.Sprintf("127.0.0.1:%d", 1000+i)}
			if _, err := r.Register(within(t, patience), in); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	all := watch(t, r, registry.Query{Service: "many"})
	all.until("all instances", healthy(announced))
	for _, i := range []int{0, announced / 2, announced - 1} {
		if err := w.operator.Agent().ServiceDeregister(fmt.Sprintf("many:%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all entries are back", func() bool {
		entries, err := w.operator.Agent().Services()
		return err == nil && len(entries) == announced+watched
	})
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	w.wantNoError()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if s := log.String(); strings.Contains(s, "429") {
		t.Errorf("the agent has refused calls: %.2000s", s)
	}
}

// Other programs of the same host have more than half of the connections: an agent that refuses one is asked for fewer, and
// every change arrives.
func TestACrowdBesideOthers(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	var others []net.Conn
	for range 110 {
		c, err := net.Dial("tcp", agent.Addr())
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, c)
	}
	t.Cleanup(func() {
		for _, c := range others {
			c.Close()
		}
	})
	w := watchCrowd(t, agent, Config{Address: agent.Addr()}, crowdSize)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	refused := map[string]int{}
	for i, seen := range w.watchers {
		for _, p := range seen.all() {
			if p.err != nil {
				refused[strings.ReplaceAll(p.err.Error(), w.service(i), "x")]++
			} else if len(p.set) != 1 {
				t.Errorf("%s had %v", w.service(i), p)
			}
		}
	}
	t.Logf("refusals: %v", refused)
	if len(refused) == 0 {
		t.Error("the agent has refused nobody, so this shows nothing")
	}
}

// Over TLS a connection carries them all.
func TestACrowdOverTLS(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue("consul.test", dir+"/server.pem", dir+"/key.pem")
	port := freePort(t)
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: fmt.Sprintf("ports { https = %d }\ntls { https { cert_file = %q, key_file = %q } }",
		port, dir+"/server.pem", dir+"/key.pem")})
	w := watchCrowd(t, agent, Config{Address: fmt.Sprintf("https://127.0.0.1:%d", port), TLS: TLS{CAFile: ca.file}}, crowdSize)
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most, on %d connections", len(took), took[len(took)/2], took[len(took)-1], w.dials.Load())
	w.wantNoError()
	// Two would do, but the first reads may all dial before anybody knows that the agent speaks HTTP/2.
	if n := w.dials.Load(); n > crowdSize/4 {
		t.Errorf("there were %d connections", n)
	}
}

func TestPlacesInACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(func() {})
		enter := func() place {
			p, err := c.enter(t.Context(), watching)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		var in []place
		for i := range longReads + shortReads {
			p := enter()
			if p.brief != (i >= longReads) {
				t.Fatalf("place %d: brief is %v", i, p.brief)
			}
			in = append(in, p)
		}
		var order []int
		var work sync.WaitGroup
		for i := range 3 {
			work.Go(func() {
				p := enter()
				order = append(order, i)
				p.leave(http.StatusOK, 1)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		work.Go(func() {
			if _, err := c.enter(ctx, watching); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		})
		synctest.Wait()
		if len(order) != 0 {
			t.Fatal("there was place for more")
		}
		cancel()
		in[len(in)-1].leave(http.StatusOK, 1)
		work.Wait()
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("it was their turn in the order %v", order)
		}
		if q, err := c.enter(t.Context(), lookup); err != nil || q.brief {
			t.Errorf("a read that does not wait got %+v, %v", q, err)
		}
	})
}

func TestACrowdThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		c := newCrowd(func() { closed++ })
		time.Sleep(crowdCalm)
		one := func(code, version int) {
			p, err := c.enter(t.Context(), watching)
			if err != nil {
				t.Fatal(err)
			}
			p.leave(code, version)
		}
		var in []place
		for range longReads {
			p, _ := c.enter(t.Context(), watching)
			in = append(in, p)
		}
		in[0].leave(http.StatusTooManyRequests, 1)
		in[1].leave(http.StatusTooManyRequests, 1) // at once: it is the same refusal
		if c.lanes[watching].first.limit != longReads/2 || closed != 1 {
			t.Errorf("after a refusal the limit is %d; idle connections were closed %d times", c.lanes[watching].first.limit, closed)
		}
		if n := c.lanes[writing].first.limit; n != writes/2 {
			t.Errorf("after a refusal of a read %d writes may be in flight", n)
		}
		for _, p := range in[2:] {
			p.leave(http.StatusOK, 1)
		}
		for range 10 {
			time.Sleep(crowdCalm)
			one(http.StatusTooManyRequests, 1)
		}
		for l := range c.each {
			if l.limit != min(1, l.most) {
				t.Errorf("after many it is %+v", l)
			}
		}
		for range longReads + 10 {
			time.Sleep(crowdCalm)
			one(http.StatusOK, 1)
		}
		for l := range c.each {
			if l.limit != l.most {
				t.Errorf("after as many successes it is %+v", l)
			}
		}
		one(http.StatusOK, 2)
		for range 10 * longReads {
			if p, err := c.enter(t.Context(), watching); err != nil || p.brief {
				t.Fatalf("over HTTP/2 it is %+v, %v", p, err)
			}
		}
		p, _ := c.enter(t.Context(), watching)
		p.leave(http.StatusOK, 1)
		if p, err := c.enter(t.Context(), watching); err != nil || !p.brief {
			t.Errorf("when it is HTTP/1.1 again, and there is a crowd, it is %+v, %v", p, err)
		}
	})
}

// However often a read is made in a crowd, the set is confirmed once in a Wait, as without one.
func TestACrowdConfirmsOnceAWait(t *testing.T) {
	clearEnvironment(t)
	var mu sync.Mutex
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		mu.Lock()
		asked = append(asked, q.Get("index")+" "+q.Get("wait"))
		mu.Unlock()
		if q.Has("index") {
			<-time.After(crowdWait)
		}
		w.Header().Set("X-Consul-Index", "10")
		fmt.Fprint(w, set("10", "a").body)
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL, Wait: 9 * crowdWait / 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.agent.crowd.lanes[watching].first = lane{} // a crowd has taken all of them
	src := d.Follow(registry.Query{Service: "s"})
	if got := next(t, src) + next(t, src); got != "aa" {
		t.Errorf("got %q", got)
	}
	last := len(asked) - 1
	if last < 3 || asked[0] != " " || asked[last] != " " || slices.ContainsFunc(asked[1:last], func(s string) bool { return s != "10 1000ms" }) {
		t.Errorf("it asked %q", asked)
	}
}

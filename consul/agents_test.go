package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// scriptedAgent starts an agent that answers reads from a script, and whatever else with 404.
func scriptedAgent(t *testing.T, answers ...answer) (*httptest.Server, *script) {
	t.Helper()
	s := &script{t: t, answers: answers}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/") {
			http.NotFound(w, r)
			return
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv, s
}

func followAll(t *testing.T, addresses ...string) (*driver, registry.Source) {
	t.Helper()
	clearEnvironment(t)
	d, err := newDriver(Config{Address: strings.Join(addresses, ",")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, d.Follow(registry.Query{Service: "s"})
}

// refused returns an address where nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestADeadAgentCostsNoCall(t *testing.T) {
	b, read := scriptedAgent(t, set("5", "a"), set("6", "b"))
	d, src := followAll(t, refused(t), refused(t), b.URL)
	if got := next(t, src); got != "a" {
		t.Errorf("got %q", got)
	}
	if got := next(t, src); got != "b" || !slices.Equal(read.reads(), []string{"", "5"}) {
		t.Errorf("got %q from reads with the indexes %q", got, read.reads())
	}
	if d.Locate() != b.Listener.Addr().String() {
		t.Errorf("it is at %s", d.Locate())
	}
}

func TestAllAgentsDead(t *testing.T) {
	_, src := followAll(t, refused(t), refused(t))
	if got := next(t, src); !strings.Contains(got, "refused") {
		t.Errorf("got %q", got)
	}
}

// An index says nothing about another agent, whatever made the first one fail.
func TestAnIndexIsUsedWhereItCameFrom(t *testing.T) {
	for name, c := range map[string]struct {
		failure answer
		moves   bool
	}{
		"broken connection": {answer{drop: true}, true},
		"502":               {answer{status: 502}, true},
		"503":               {answer{status: 503}, true},
		"no servers":        {answer{status: 500, body: "No known Consul servers"}, true},
		"no leader":         {answer{status: 500, body: "No cluster leader"}, true},
		"another 500":       {answer{status: 500, body: "the query went wrong"}, false},
		"429":               {answer{status: 429}, false},
		"403":               {answer{status: 403}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, readA := scriptedAgent(t, set("1000", "a"), c.failure, set("1001", "x"))
			b, readB := scriptedAgent(t, set("10", "b"), set("11", "c"))
			_, src := followAll(t, a.URL, b.URL)
			next(t, src)
			if got := next(t, src); !strings.HasPrefix(got, "error: ") {
				t.Errorf("the failure is %q", got)
			}
			got := next(t, src)
			if !c.moves {
				if got != "x" || len(readB.reads()) > 0 {
					t.Errorf("it went on to the other agent, which gave %q", got)
				}
				return
			}
			// One more of the first agent is that of net/http, which is stopped from sending a read again, but maybe not in time.
			if got != "b" || next(t, src) != "c" || !slices.Equal(readB.reads(), []string{"", "10"}) || len(readA.reads()) > 3 {
				t.Errorf("got %q, with the indexes %q and %q", got, readA.reads(), readB.reads())
			}
		})
	}
}

// A watch whose own agent is well goes along when another call found that agent failing, and starts at index 0 there.
func TestAWatchGoesAlong(t *testing.T) {
	a, _ := scriptedAgent(t, set("1000", "a"), answer{status: 502})
	b, readB := scriptedAgent(t, set("10", "b"))
	d, src := followAll(t, a.URL, b.URL)
	next(t, src)
	if got := next(t, d.Follow(registry.Query{Service: "s"})); !strings.HasPrefix(got, "error: ") {
		t.Fatalf("got %q", got)
	}
	if got := next(t, src); got != "b" || !slices.Equal(readB.reads(), []string{""}) {
		t.Errorf("got %q with the indexes %q", got, readB.reads())
	}
}

// An agent that takes a connection and says nothing costs a few seconds, and not the whole of a wait.
func TestAHangingAgent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // nobody accepts: the kernel does
	b, _ := scriptedAgent(t, set("10", "b"))
	_, src := followAll(t, silent.Addr().String(), b.URL)
	if got := next(t, src); !strings.Contains(got, errHangs.Error()) {
		t.Errorf("got %q", got)
	}
	if got := next(t, src); got != "b" {
		t.Errorf("got %q", got)
	}
}

// A quiet agent that answers the probes is left alone, however long a call waits.
func TestAnAgentThatTakesItsTime(t *testing.T) {
	probed := make(chan struct{}, 10)
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status/leader" {
			probed <- struct{}{}
			http.Error(w, "no leader", http.StatusInternalServerError)
			return
		}
		<-probed
		w.Header().Set("X-Consul-Index", "5")
		fmt.Fprint(w, set("5", "a").body)
	}))
	defer a.Close()
	d, src := followAll(t, a.URL, refused(t))
	if got := next(t, src); got != "a" || d.Locate() != a.Listener.Addr().String() {
		t.Errorf("got %q at %s", got, d.Locate())
	}
}

func TestClosingEndsProbing(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, src := followAll(t, silent.Addr().String(), refused(t)) // goleak finds what Close leaves
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// startClientAgent starts an agent that has no data of its own and asks server.
func startClientAgent(t *testing.T, server *testbed.Consul) *testbed.Consul {
	t.Helper()
	self, err := operatorOf(t, server).Agent().Members(false)
	if err != nil || len(self) != 1 {
		t.Fatalf("the members are %v, %v", self, err)
	}
	return testbed.StartConsul(t, testbed.ConsulOptions{
		Config: fmt.Sprintf("server = false\nbootstrap_expect = 0\nretry_join = [\"127.0.0.1:%d\"]\nretry_interval = \"1s\"", self[0].Port),
	})
}

// An announcement goes on at another agent, in view of everybody, and what it left at the first one is removed when that
// is back.
func TestAnAnnouncementFailsOver(t *testing.T) {
	clearEnvironment(t)
	server := testbed.StartConsul(t)
	first := startClientAgent(t, server)
	proxy := testbed.NewProxy(t, first.Addr())
	for name, c := range map[string]struct{ fail, heal func() }{
		"unreachable": {proxy.Refuse, proxy.Heal},
		"hanging":     {first.Stop, first.Continue},
	} {
		t.Run(name, func(t *testing.T) { testAnnouncementFailsOver(t, name, server, first, proxy.Addr(), c.fail, c.heal) })
	}
}

func testAnnouncementFailsOver(t *testing.T, name string, server, first *testbed.Consul, address string, fail, heal func()) {
	r := open(t, Config{Address: address + "," + server.Addr(), TTL: minTTL})
	q := registry.Query{Service: uniqueService()}
	g := register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	w, beside := watch(t, r, q), watch(t, open(t, Config{Address: server.Addr()}), q)
	w.until("the instance", healthy(1))
	beside.until("the instance", healthy(1))

	has := func(agent *testbed.Consul) bool {
		_, _, err := operatorOf(t, agent).Agent().Service(serviceID(q.Service, "a"), nil)
		var status api.StatusError
		if err != nil && (!errors.As(err, &status) || status.Code != http.StatusNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	fail()
	eventually(t, "the second agent has it", func() bool { return has(server) && g.Err() == nil })
	w.until("the set through the second agent", healthy(1))
	heal()
	eventually(t, "the first agent has it no more", func() bool { return !has(first) })
	eventually(t, "the catalog has it once", func() bool {
		catalog, _, err := operatorOf(t, server).Catalog().Service(q.Service, "", nil)
		return err == nil && len(catalog) == 1 && catalog[0].Node == server.Node()
	})
	for _, p := range w.all() {
		// One that hangs is given up by the others of its cluster too, which on a busy machine may be sooner.
		if len(p.set) != 1 && name != "hanging" {
			t.Errorf("meanwhile its own watch had %v", p)
		}
	}
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	beside.until("none", healthy(0))
	if has(server) {
		t.Error("the second agent has it after Deregister")
	}
}

// Whoever leaves takes along what could not be removed before.
func TestDeregisterAfterAFailover(t *testing.T) {
	clearEnvironment(t)
	server := testbed.StartConsul(t)
	first := startClientAgent(t, server)
	proxy := testbed.NewProxy(t, first.Addr())
	r := open(t, Config{Address: proxy.Addr() + "," + server.Addr(), TTL: patience}) // no time for it but in Deregister
	in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"}
	g := register(t, r, in)
	proxy.Refuse()
	eventually(t, "the second agent has it", func() bool {
		_, _, err := operatorOf(t, server).Agent().Service(serviceID(in.Service, "a"), nil)
		return err == nil && g.Err() == nil
	})
	proxy.Heal()
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	for _, agent := range []*testbed.Consul{server, first} {
		_, _, err := operatorOf(t, agent).Agent().Service(serviceID(in.Service, "a"), nil)
		var status api.StatusError
		if !errors.As(err, &status) || status.Code != http.StatusNotFound {
			t.Errorf("at %s it is still there: %v", agent.Addr(), err)
		}
	}
}

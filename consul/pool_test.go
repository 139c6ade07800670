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

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// scriptedAgent starts an agent that answers reads from a script, and all other calls with 404.
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
	d, err := newDriver(Config{Address: strings.Join(addresses, ",")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, d.Watch(registry.Query{Service: "s"})
}

// refused returns an address on which nothing listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNext_ContinuesAtTheNextAgentIfOneIsDead(t *testing.T) {
	b, read := scriptedAgent(t, set("5", "a"), set("6", "b"))
	d, src := followAll(t, refused(t), refused(t), b.URL)
	if got := next(t, src); got != "a" {
		t.Errorf("got %q", got)
	}
	if got := next(t, src); got != "b" || !slices.Equal(read.reads(), []string{"", "5"}) {
		t.Errorf("got %q from reads with the indexes %q", got, read.reads())
	}
	if d.Properties().Address != b.Listener.Addr().String() {
		t.Errorf("it is at %s", d.Properties().Address)
	}
}

func TestNext_FailsIfAllAgentsAreDead(t *testing.T) {
	_, src := followAll(t, refused(t), refused(t))
	if got := next(t, src); !strings.Contains(got, "refused") {
		t.Errorf("got %q", got)
	}
}

// After any failure of an agent, the index of its last answer is not used at another agent.
func TestNext_StartsAtIndexZeroAtAnotherAgent(t *testing.T) {
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
					t.Errorf("it switched to the other agent, which gave %q", got)
				}
				return
			}
			// net/http may send one read to the first agent again before it is stopped from doing so.
			if got != "b" || next(t, src) != "c" || !slices.Equal(readB.reads(), []string{"", "10"}) || len(readA.reads()) > 3 {
				t.Errorf("got %q, with the indexes %q and %q", got, readA.reads(), readB.reads())
			}
		})
	}
}

// If another call finds that the agent fails, a watch switches too although its own reads succeed, and starts at index 0.
func TestWatch_SwitchesToTheNextAgent(t *testing.T) {
	a, _ := scriptedAgent(t, set("1000", "a"), answer{status: 502})
	b, readB := scriptedAgent(t, set("10", "b"))
	d, src := followAll(t, a.URL, b.URL)
	next(t, src)
	if got := next(t, d.Watch(registry.Query{Service: "s"})); !strings.HasPrefix(got, "error: ") {
		t.Fatalf("got %q", got)
	}
	if got := next(t, src); got != "b" || !slices.Equal(readB.reads(), []string{""}) {
		t.Errorf("got %q with the indexes %q", got, readB.reads())
	}
}

// An agent that accepts a connection and does not answer delays a read by a few seconds, not by a whole Wait.
func TestNext_SwitchesFromAnAgentThatHangs(t *testing.T) {
	unresponsive, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unresponsive.Close() // the kernel accepts connections, but nothing answers
	b, _ := scriptedAgent(t, set("10", "b"))
	_, src := followAll(t, unresponsive.Addr().String(), b.URL)
	if got := next(t, src); !strings.Contains(got, agentpkg.ErrHangs.Error()) {
		t.Errorf("got %q", got)
	}
	if got := next(t, src); got != "b" {
		t.Errorf("got %q", got)
	}
}

// A read stays at a slow agent for as long as the agent answers probes.
func TestNext_StaysAtASlowAgent(t *testing.T) {
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
	if got := next(t, src); got != "a" || d.Properties().Address != a.Listener.Addr().String() {
		t.Errorf("got %q at %s", got, d.Properties().Address)
	}
}

func TestClose_EndsProbing(t *testing.T) {
	unresponsive, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unresponsive.Close()
	_, src := followAll(t, unresponsive.Addr().String(), refused(t)) // goleak finds what Close leaves
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

// A registration continues at another agent, and every watch sees it there. Its entry at the first agent is removed when that agent is
// back.
func TestRegistration_SwitchesToTheNextAgent(t *testing.T) {
	t.Parallel()
	server := testbed.StartConsul(t)
	first := startClientAgent(t, server)
	proxy := testbed.NewProxy(t, first.Addr())
	for name, c := range map[string]struct{ fail, heal func() }{
		"unreachable": {proxy.Refuse, proxy.Heal},
		"hanging":     {first.Stop, first.Continue},
	} {
		t.Run(name, func(t *testing.T) { testRegistrationFailsOver(t, name, server, first, proxy.Addr(), c.fail, c.heal) })
	}
}

func testRegistrationFailsOver(t *testing.T, name string, server, first *testbed.Consul, address string, fail, heal func()) {
	r := open(t, Config{Address: address + "," + server.Addr(), TTL: minTTL})
	q := registry.Query{Service: uniqueService()}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	w, beside := watchtest.Watch(t, r, q), watchtest.Watch(t, open(t, Config{Address: server.Addr()}), q)
	w.Until("the instance", watchtest.Healthy(1))
	beside.Until("the instance", watchtest.Healthy(1))

	has := func(agent *testbed.Consul) bool {
		_, _, err := operatorOf(t, agent).Agent().Service(codec.ServiceID(q.Service, "a"), nil)
		var status api.StatusError
		if err != nil && (!errors.As(err, &status) || status.Code != http.StatusNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	fail()
	watchtest.Eventually(t, "the second agent has it", func() bool { return has(server) && g.Err() == nil })
	w.Until("the set through the second agent", watchtest.Healthy(1))
	heal()
	watchtest.Eventually(t, "the first agent has it no more", func() bool { return !has(first) })
	watchtest.Eventually(t, "the catalog has it once", func() bool {
		catalog, _, err := operatorOf(t, server).Catalog().Service(q.Service, "", nil)
		return err == nil && len(catalog) == 1 && catalog[0].Node == server.Node()
	})
	for _, p := range w.All() {
		// The other members of a cluster give up a hanging agent too, which may be sooner on a busy machine.
		if len(p.Set) != 1 && name != "hanging" {
			t.Errorf("meanwhile its own watch had %v", p)
		}
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	beside.Until("none", watchtest.Healthy(0))
	if has(server) {
		t.Error("the second agent has it after Deregister")
	}
}

// Deregister also removes entries at agents that were away when they should have been removed.
func TestDeregister_RemovesOrphanedEntries(t *testing.T) {
	t.Parallel()
	server := testbed.StartConsul(t)
	first := startClientAgent(t, server)
	proxy := testbed.NewProxy(t, first.Addr())
	r := open(t, Config{Address: proxy.Addr() + "," + server.Addr(), TTL: watchtest.Timeout}) // so that only Deregister has the time for it
	in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"}
	g := watchtest.Register(t, r, in)
	proxy.Refuse()
	watchtest.Eventually(t, "the second agent has it", func() bool {
		_, _, err := operatorOf(t, server).Agent().Service(codec.ServiceID(in.Service, "a"), nil)
		return err == nil && g.Err() == nil
	})
	proxy.Heal()
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	for _, agent := range []*testbed.Consul{server, first} {
		_, _, err := operatorOf(t, agent).Agent().Service(codec.ServiceID(in.Service, "a"), nil)
		var status api.StatusError
		if !errors.As(err, &status) || status.Code != http.StatusNotFound {
			t.Errorf("at %s it is still there: %v", agent.Addr(), err)
		}
	}
}

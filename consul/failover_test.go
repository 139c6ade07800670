package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// world is an agent that knows several datacenters, each with its own state.
type world struct {
	mu      sync.Mutex
	changed chan struct{}
	centers map[string]*center
	reads   map[string]int
	waits   int // reads with an index
}

type center struct {
	index  int
	ids    []string
	status int  // of every answer; 0 is 200
	dead   bool // there is no answer
}

func newWorld(t *testing.T) (*world, string) {
	t.Helper()
	w := &world{changed: make(chan struct{}), centers: map[string]*center{}, reads: map[string]int{}}
	for i, name := range []string{"", "dc2", "dc3"} {
		w.centers[name] = &center{index: 1000 - 300*i}
	}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	return w, srv.URL
}

// in changes the state of a datacenter.
func (w *world) in(name string, change func(*center)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.centers[name])
	w.centers[name].index++
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("dc")
	index := r.URL.Query().Get("index")
	w.mu.Lock()
	w.reads[name]++
	if index != "" {
		w.waits++
	}
	w.mu.Unlock()
	for {
		w.mu.Lock()
		c, changed := *w.centers[name], w.changed
		w.mu.Unlock()
		if !c.dead && index != fmt.Sprint(c.index) {
			if c.status != 0 {
				http.Error(rw, "rpc error getting client: "+name, c.status)
				return
			}
			a := set(fmt.Sprint(c.index), c.ids...)
			rw.Header().Set("X-Consul-Index", a.index)
			fmt.Fprint(rw, strings.ReplaceAll(a.body, `"10.0.0.1"`, fmt.Sprintf(`"10.0.0.1","Datacenter":%q`, name)))
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (w *world) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads[name]
}

// has reports whether a pair has no error and exactly these instances, all of one datacenter.
func has(datacenter string, ids ...string) func(watchtest.Pair) bool {
	return func(p watchtest.Pair) bool {
		var got []string
		for _, in := range p.Set {
			if in.Metadata[MetaDatacenter] != datacenter {
				return false
			}
			got = append(got, in.ID)
		}
		return p.Err == nil && slices.Equal(got, ids)
	}
}

func ids(s ...string) func(*center) {
	return func(c *center) { c.ids, c.status, c.dead = s, 0, false }
}
func dead(c *center)    { c.dead = true }
func failing(c *center) { c.status = http.StatusInternalServerError }

func watchWorld(t *testing.T, address string) *watchtest.Watcher {
	t.Helper()
	r := open(t, Config{Address: address, Failover: []string{"dc2", "dc3"}, Timeout: 2 * watchtest.Timeout, Options: registry.Options{OutageGrace: -1}})
	return watchtest.Watch(t, r, registry.Query{Service: "s"})
}

func TestFailover_MovesAwayAndBack(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", ids("b"))
	w.in("dc3", ids("c"))
	seen := watchWorld(t, address)
	seen.Until("the local one", has("", "a"))
	if w.count("dc2")+w.count("dc3") != 0 {
		t.Error("it reads the others while the first one has instances")
	}
	w.in("", ids())
	seen.Until("the next one", has("dc2", "b"))
	w.in("dc2", ids("b", "b2"))
	seen.Until("a change there", has("dc2", "b", "b2"))
	w.in("dc2", ids())
	seen.Until("the one after that", has("dc3", "c"))
	w.in("dc2", ids("b3"))
	seen.Until("the nearer one again", has("dc2", "b3"))
	w.in("", ids("a2"))
	seen.Until("back", has("", "a2"))
	// A change in a datacenter that is not used is seen when the datacenter is used again.
	w.in("dc2", ids("b4"))
	w.in("", ids())
	seen.Until("the next one as it is now", has("dc2", "b4"))
	w.in("", ids("a3"))
	seen.Until("back again", has("", "a3"))
	for _, p := range seen.All() {
		if len(p.Set) == 0 {
			t.Errorf("in between there was %v", p)
		}
	}
}

// Failover skips a datacenter that fails or does not answer.
func TestFailover_SkipsADatacenterThatFails(t *testing.T) {
	for name, ill := range map[string]func(*center){"dead": dead, "failing": failing} {
		t.Run(name, func(t *testing.T) {
			w, address := newWorld(t)
			w.in("", ids("a"))
			w.in("dc2", ill)
			w.in("dc3", ids("c"))
			seen := watchWorld(t, address)
			seen.Until("the local one", has("", "a"))
			w.in("", ids())
			seen.Until("the one after the dead one", has("dc3", "c")) // long before a read of the dead one ends
			if name == "failing" {
				w.in("dc2", ids("b"))
				seen.Until("it lives again", has("dc2", "b"))
			}
			w.in("", ids("a2"))
			seen.Until("back", has("", "a2"))
			for _, p := range seen.All() {
				if len(p.Set) == 0 {
					t.Errorf("in between there was %v", p)
				}
			}
		})
	}
}

func TestFailover_YieldsAnEmptySetIfNoDatacenterHasInstances(t *testing.T) {
	w, address := newWorld(t)
	seen := watchWorld(t, address)
	seen.Until("none", has(""))
	w.in("dc3", ids("c"))
	seen.Until("the last one", has("dc3", "c"))
	w.in("dc3", ids())
	seen.Until("none again", has(""))
	w.in("", ids("a"))
	seen.Until("the first one", has("", "a"))
}

// If one datacenter cannot be asked, it may have instances.
func TestFailover_FailsIfADatacenterMayHaveInstances(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", failing)
	seen := watchWorld(t, address)
	seen.Until("the first one", has("", "a"))
	w.in("", ids())
	p := seen.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	if len(p.Set) != 1 || p.Set[0].ID != "a" || !strings.Contains(p.Err.Error(), "rpc error getting client: dc2") {
		t.Errorf("it is %v", p)
	}
	w.in("dc2", ids())
	seen.Until("the empty set", has(""))
}

// The first datacenter stays in use until it is known to have no instances.
func TestFailover_StaysInAnOutage(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", ids("b"))
	seen := watchWorld(t, address)
	seen.Until("the local one", has("", "a"))
	w.in("", failing)
	p := seen.Until("the outage", func(p watchtest.Pair) bool { return p.Err != nil })
	if len(p.Set) != 1 || p.Set[0].ID != "a" || w.count("dc2") != 0 {
		t.Errorf("it is %v, with %d reads of dc2", p, w.count("dc2"))
	}
	w.in("", ids("a", "z"))
	seen.Until("the end of it", has("", "a", "z"))
}

// A watch that begins while the first datacenter fails uses the next one.
func TestFailover_UsesTheNextDatacenterFromTheStart(t *testing.T) {
	w, address := newWorld(t)
	w.in("", failing)
	w.in("dc2", ids("b"))
	seen := watchWorld(t, address)
	seen.Until("the next one", has("dc2", "b"))
	w.in("", ids("a"))
	seen.Until("back", has("", "a"))
}

func TestFailover_LookupUsesTheNextDatacenter(t *testing.T) {
	w, address := newWorld(t)
	w.in("dc2", dead)
	w.in("dc3", ids("c"))
	r := open(t, Config{Address: address, Failover: []string{"dc2", "dc3"}})
	got, err := r.Lookup(watchtest.Context(t), registry.Query{Service: "s", AnyStatus: true})
	if err != nil || !has("dc3", "c")(watchtest.Pair{Set: got}) {
		t.Errorf("got %v, %v", got, err)
	}
	r.Close()
	// A lookup does not wait for a datacenter that does not answer, and leaves no waiting read behind.
	w.in("dc3", ids())
	r = open(t, Config{Address: address, Failover: []string{"dc2", "dc3"}}) // the first one remembers
	if got, err = r.Lookup(watchtest.Context(t), registry.Query{Service: "s"}); !errors.Is(err, registry.ErrUnavailable) || len(got) != 0 {
		t.Errorf("without any it is %v, %v", got, err)
	}
	r.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits != 0 {
		t.Errorf("there were %d reads that wait", w.waits)
	}
}

func TestFailover_NamesWhatItRefuses(t *testing.T) {
	for _, c := range []Config{
		{Failover: []string{"dc2", ""}}, {Failover: []string{"dc2", "dc2"}}, {Failover: []string{"dc 2"}}, {Failover: []string{"dc2,dc3"}}, {Failover: []string{"dc2"}, Datacenter: "dc2"}, {Failover: []string{"dc2"}, Peer: "p"},
	} {
		_, err := New(c)
		configtest.WantRefusal(t, err, "Failover", "failover")
	}
}

// joinedByWAN starts datacenters of one server each: dc1, dc2 and so on.
func joinedByWAN(t *testing.T, n int) (all []*testbed.Consul) {
	t.Helper()
	first := 0 // the port of the first one
	for i := range n {
		port := freePort(t)
		more := fmt.Sprintf("datacenter = \"dc%d\"\nports { serf_wan = %d }\n", i+1, port)
		if i == 0 {
			first = port
		} else {
			more += fmt.Sprintf("retry_join_wan = [\"127.0.0.1:%d\"]\nretry_interval_wan = \"1s\"", first)
		}
		all = append(all, testbed.StartConsul(t, testbed.ConsulOptions{Config: more}))
	}
	watchtest.Eventually(t, "each knows the others", func() bool {
		for _, a := range all {
			for i := range n {
				if _, _, err := operatorOf(t, a).Catalog().Nodes(&api.QueryOptions{Datacenter: fmt.Sprint("dc", i+1)}); err != nil {
					return false
				}
			}
		}
		return true
	})
	return all
}

func TestFailover_BetweenDatacenters(t *testing.T) {
	t.Parallel()
	all := joinedByWAN(t, 2)
	dc1, dc2 := all[0], all[1]
	here, there := open(t, Config{Address: dc1.Addr()}), open(t, Config{Address: dc2.Addr()})
	service := uniqueService()
	local := watchtest.Register(t, here, registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
	remote := watchtest.Register(t, there, registry.Instance{ID: "b", Service: service, Address: "10.0.0.2:80"})

	// The list has a datacenter that does not exist before a datacenter that exists.
	r := open(t, Config{Address: dc1.Addr(), Failover: []string{"nowhere", "dc2"}})
	w := watchtest.Watch(t, r, registry.Query{Service: service})
	w.Until("the local one", has("dc1", "a"))
	watchtest.Update(t, local, func(in *registry.Instance) { in.Status = registry.Critical })
	w.Until("the other datacenter", has("dc2", "b"))
	watchtest.Update(t, remote, func(in *registry.Instance) { in.Version = "2" })
	w.Until("a change there", func(p watchtest.Pair) bool { return has("dc2", "b")(p) && p.Set[0].Version == "2" })
	watchtest.Update(t, local, func(in *registry.Instance) { in.Status = registry.Passing })
	w.Until("back", has("dc1", "a"))
	for _, p := range w.All() {
		if len(p.Set) != 1 {
			t.Errorf("in between there was %v", p)
		}
	}
	for _, g := range []registry.Registration{local, remote} {
		if err := g.Deregister(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
	}
}

// A dead datacenter delays nothing, whether it refuses calls or does not answer.
func TestFailover_SkipsADeadDatacenter(t *testing.T) {
	t.Parallel()
	all := joinedByWAN(t, 3)
	service := uniqueService()
	var in []registry.Registration
	for i, agent := range all {
		r := open(t, Config{Address: agent.Addr(), TTL: watchtest.Timeout})
		in = append(in, watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint("i", i+1), Service: service, Address: "10.0.0.1:80"}))
	}
	proxy := testbed.NewProxy(t, all[0].Addr())
	w := watchtest.Watch(t, open(t, Config{Address: proxy.Addr(), Timeout: 2 * watchtest.Timeout, Failover: []string{"dc2", "dc3"}}), registry.Query{Service: service})
	w.Until("the local one", has("dc1", "i1"))
	for _, c := range []struct {
		name string
		die  func()
	}{{"paused", all[1].Stop}, {"killed", all[1].Kill}} {
		c.die()
		began := time.Now()
		watchtest.Update(t, in[0], func(in *registry.Instance) { in.Status = registry.Critical })
		w.Until("the one after the dead one", has("dc3", "i3"))
		t.Logf("%s: it took %v", c.name, time.Since(began))
		if n := proxy.InFlight(func(r *http.Request) bool { return r.URL.Query().Get("dc") == "dc2" }); n == 0 && c.name == "paused" {
			t.Errorf("%s: the watch has waited until the read of dc2 ended", c.name)
		}
		watchtest.Update(t, in[0], func(in *registry.Instance) { in.Status = registry.Passing })
		w.Until("back", has("dc1", "i1"))
	}
	for _, p := range w.All() {
		if len(p.Set) != 1 {
			t.Errorf("in between there was %v", p)
		}
	}
}

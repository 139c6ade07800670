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

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// world is an agent that knows several datacenters, of which each has its own state.
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
	clearEnvironment(t)
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
	timeout := time.After(patience)
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
		case <-timeout:
			return
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

// has is true for a pair without an error that has these instances, all of one datacenter.
func has(datacenter string, ids ...string) func(pair) bool {
	return func(p pair) bool {
		var got []string
		for _, in := range p.set {
			if in.Metadata[MetaDatacenter] != datacenter {
				return false
			}
			got = append(got, in.ID)
		}
		return p.err == nil && slices.Equal(got, ids)
	}
}

func ids(s ...string) func(*center) {
	return func(c *center) { c.ids, c.status, c.dead = s, 0, false }
}
func dead(c *center)    { c.dead = true }
func failing(c *center) { c.status = http.StatusInternalServerError }

func watchWorld(t *testing.T, address string) *watcher {
	t.Helper()
	r := open(t, Config{Address: address, Failover: "dc2, dc3", Options: registry.Options{EmptyHold: -1}})
	return watch(t, r, registry.Query{Service: "s"})
}

func TestFailoverGoesAndComesBack(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", ids("b"))
	w.in("dc3", ids("c"))
	seen := watchWorld(t, address)
	seen.until("the local one", has("", "a"))
	if w.count("dc2")+w.count("dc3") != 0 {
		t.Error("it reads the others while the first one has instances")
	}
	w.in("", ids())
	seen.until("the next one", has("dc2", "b"))
	w.in("dc2", ids("b", "b2"))
	seen.until("a change there", has("dc2", "b", "b2"))
	w.in("dc2", ids())
	seen.until("the one after that", has("dc3", "c"))
	w.in("dc2", ids("b3"))
	seen.until("the nearer one again", has("dc2", "b3"))
	w.in("", ids("a2"))
	seen.until("back", has("", "a2"))
	// What changes meanwhile is known when it is needed again.
	w.in("dc2", ids("b4"))
	w.in("", ids())
	seen.until("the next one as it is now", has("dc2", "b4"))
	w.in("", ids("a3"))
	seen.until("back again", has("", "a3"))
	for _, p := range seen.all() {
		if len(p.set) == 0 {
			t.Errorf("in between there was %v", p)
		}
	}
}

// A datacenter that does not answer, or fails, is passed over.
func TestFailoverPassesOverADeadOne(t *testing.T) {
	for name, ill := range map[string]func(*center){"dead": dead, "failing": failing} {
		t.Run(name, func(t *testing.T) {
			w, address := newWorld(t)
			w.in("", ids("a"))
			w.in("dc2", ill)
			w.in("dc3", ids("c"))
			seen := watchWorld(t, address)
			seen.until("the local one", has("", "a"))
			began := time.Now()
			w.in("", ids())
			seen.until("the one after the dead one", has("dc3", "c"))
			if took := time.Since(began); took > DefaultTimeout/2 {
				t.Errorf("it took %v, as long as the dead one", took)
			}
			if name == "failing" {
				w.in("dc2", ids("b"))
				seen.until("it lives again", has("dc2", "b"))
			}
			w.in("", ids("a2"))
			seen.until("back", has("", "a2"))
			for _, p := range seen.all() {
				if len(p.set) == 0 {
					t.Errorf("in between there was %v", p)
				}
			}
		})
	}
}

func TestFailoverWhenNobodyHasAny(t *testing.T) {
	w, address := newWorld(t)
	seen := watchWorld(t, address)
	seen.until("none", has(""))
	w.in("dc3", ids("c"))
	seen.until("the last one", has("dc3", "c"))
	w.in("dc3", ids())
	seen.until("none again", has(""))
	w.in("", ids("a"))
	seen.until("the first one", has("", "a"))
}

// Where one cannot be asked, nobody knows that there is none.
func TestFailoverWhenOneMayHaveSome(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", failing)
	seen := watchWorld(t, address)
	seen.until("the first one", has("", "a"))
	w.in("", ids())
	p := seen.until("doubt", func(p pair) bool { return p.err != nil })
	if len(p.set) != 1 || p.set[0].ID != "a" || !strings.Contains(p.err.Error(), "rpc error getting client: dc2") {
		t.Errorf("it is %v", p)
	}
	w.in("dc2", ids())
	seen.until("certainty", has(""))
}

// The first datacenter stays the one as long as nobody knows that it has none.
func TestFailoverStaysInAnOutage(t *testing.T) {
	w, address := newWorld(t)
	w.in("", ids("a"))
	w.in("dc2", ids("b"))
	seen := watchWorld(t, address)
	seen.until("the local one", has("", "a"))
	w.in("", failing)
	p := seen.until("the outage", func(p pair) bool { return p.err != nil })
	if len(p.set) != 1 || p.set[0].ID != "a" || w.count("dc2") != 0 {
		t.Errorf("it is %v, with %d reads of dc2", p, w.count("dc2"))
	}
	w.in("", ids("a", "z"))
	seen.until("the end of it", has("", "a", "z"))
}

// From the start, another one is better than none.
func TestFailoverFromTheStart(t *testing.T) {
	w, address := newWorld(t)
	w.in("", failing)
	w.in("dc2", ids("b"))
	seen := watchWorld(t, address)
	seen.until("the next one", has("dc2", "b"))
	w.in("", ids("a"))
	seen.until("back", has("", "a"))
}

func TestFailoverOfALookup(t *testing.T) {
	w, address := newWorld(t)
	w.in("dc2", dead)
	w.in("dc3", ids("c"))
	r := open(t, Config{Address: address, Failover: "dc2,dc3"})
	got, err := r.Lookup(within(t, patience), registry.Query{Service: "s", AnyStatus: true})
	if err != nil || !has("dc3", "c")(pair{got, nil}) {
		t.Errorf("got %v, %v", got, err)
	}
	// The one that does not answer may have as long as it takes, and still no lookup leaves a query behind that waits.
	w.in("dc3", ids())
	if got, err = r.Lookup(within(t, patience), registry.Query{Service: "s"}); !errors.Is(err, registry.ErrUnavailable) || len(got) != 0 {
		t.Errorf("without any it is %v, %v", got, err)
	}
	r.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits != 0 {
		t.Errorf("there were %d reads that wait", w.waits)
	}
}

func TestFailoverRefusals(t *testing.T) {
	for _, c := range []Config{
		{Failover: "dc2,"}, {Failover: ","}, {Failover: "dc2,dc2"}, {Failover: "dc 2"}, {Failover: "dc2", Datacenter: "dc2"}, {Failover: "dc2", Peer: "p"},
	} {
		_, err := New(c)
		wantRefusal(t, err, "Failover (failover)")
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
	eventually(t, "each knows the others", func() bool {
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

func TestFailoverBetweenDatacenters(t *testing.T) {
	clearEnvironment(t)
	all := joinedByWAN(t, 2)
	dc1, dc2 := all[0], all[1]
	here, there := open(t, Config{Address: dc1.Addr()}), open(t, Config{Address: dc2.Addr()})
	service := uniqueService()
	local := register(t, here, registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
	remote := register(t, there, registry.Instance{ID: "b", Service: service, Address: "10.0.0.2:80"})

	// A datacenter that there is not stands before one that there is.
	r := open(t, Config{Address: dc1.Addr(), Failover: "nowhere,dc2"})
	w := watch(t, r, registry.Query{Service: service})
	w.until("the local one", has("dc1", "a"))
	update(t, local, func(in *registry.Instance) { in.Status = registry.Critical })
	w.until("the other datacenter", has("dc2", "b"))
	update(t, remote, func(in *registry.Instance) { in.Version = "2" })
	w.until("a change there", func(p pair) bool { return has("dc2", "b")(p) && p.set[0].Version == "2" })
	update(t, local, func(in *registry.Instance) { in.Status = registry.Passing })
	w.until("back", has("dc1", "a"))
	for _, p := range w.all() {
		if len(p.set) != 1 {
			t.Errorf("in between there was %v", p)
		}
	}
	for _, g := range []registry.Registration{local, remote} {
		if err := g.Deregister(within(t, patience)); err != nil {
			t.Error(err)
		}
	}
}

// A datacenter that is dead delays nothing, whether it refuses calls or says nothing at all.
func TestFailoverPastADeadDatacenter(t *testing.T) {
	clearEnvironment(t)
	all := joinedByWAN(t, 3)
	service := uniqueService()
	var in []registry.Registration
	for i, agent := range all {
		r := open(t, Config{Address: agent.Addr(), TTL: patience})
		in = append(in, register(t, r, registry.Instance{ID: fmt.Sprint("i", i+1), Service: service, Address: "10.0.0.1:80"}))
	}
	w := watch(t, open(t, Config{Address: all[0].Addr(), Failover: "dc2,dc3"}), registry.Query{Service: service})
	w.until("the local one", has("dc1", "i1"))
	for _, c := range []struct {
		name string
		die  func()
	}{{"silent", all[1].Stop}, {"killed", all[1].Kill}} {
		c.die()
		began := time.Now()
		update(t, in[0], func(in *registry.Instance) { in.Status = registry.Critical })
		w.until("the one after the dead one", has("dc3", "i3"))
		took := time.Since(began)
		t.Logf("%s: it took %v", c.name, took)
		if took > DefaultTimeout/2 {
			t.Errorf("%s: it took %v, as long as the dead one", c.name, took)
		}
		update(t, in[0], func(in *registry.Instance) { in.Status = registry.Passing })
		w.until("back", has("dc1", "i1"))
	}
	for _, p := range w.all() {
		if len(p.set) != 1 {
			t.Errorf("in between there was %v", p)
		}
	}
}

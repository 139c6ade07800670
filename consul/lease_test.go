package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestLeaseOnAnAgent(t *testing.T) {
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*leaseTrial){
		"deregistered behind its back":             testDeregisteredBehindItsBack,
		"operator's maintenance survives":          testOperatorsMaintenanceSurvives,
		"operator's maintenance under its own":     testOperatorsMaintenanceUnderItsOwn,
		"own maintenance ends":                     testOwnMaintenanceEnds,
		"own maintenance never looks passing":      testOwnMaintenanceNeverLooksPassing,
		"own maintenance of a process that died":   testOwnMaintenanceOfADeadProcess,
		"replaced by somebody else's registration": testReplacedByAnotherTool,
		"released entry of another":                testReleaseLeavesAnothersEntry,
		"updates do not take over":                 testUpdateDoesNotTakeOver,
		"heartbeats do not touch the catalog":      testCatalogSeesNoHeartbeats,
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, agent.Addr())
			r := open(t, Config{Address: proxy.Addr(), TTL: minTTL})
			service := fmt.Sprintf("s-%d", time.Now().UnixNano())
			test(&leaseTrial{
				T: t, agent: agent, proxy: proxy, registry: r, operator: operatorOf(t, agent), id: serviceID(service, "a"),
				instance: registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Version: "1"},
				watcher:  watch(t, r, registry.Query{Service: service, AnyStatus: true}),
			})
		})
	}
}

type leaseTrial struct {
	*testing.T
	agent    *testbed.Consul
	proxy    *testbed.Proxy
	registry *registry.Registry
	operator *api.Client
	instance registry.Instance
	id       string // of the instance in Consul
	watcher  *watcher
}

func (t *leaseTrial) is(version string, s registry.Status) func(pair) bool {
	return func(p pair) bool {
		in := p.find("a")
		return p.err == nil && in != nil && in.Version == version && in.Status == s
	}
}

// maintenance returns the reason of the maintenance that is on, and "" where none is.
func (t *leaseTrial) maintenance() string {
	t.Helper()
	checks, err := t.operator.Agent().Checks()
	if err != nil {
		t.Fatal(err)
	}
	if c := checks[maintenanceCheck+t.id]; c != nil {
		return c.Notes
	}
	return ""
}

func (t *leaseTrial) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// again makes r announce g again, as after any outage.
func (t *leaseTrial) again(g registry.Registration) {
	t.Helper()
	t.proxy.Refuse()
	eventually(t, "the loss is noticed", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	t.proxy.Heal()
	eventually(t, "it is announced again", func() bool { return g.Err() == nil })
}

// The next heartbeat is far: it is the guard that finds out.
func testDeregisteredBehindItsBack(t *leaseTrial) {
	g := register(t, open(t, Config{Address: t.proxy.Addr(), TTL: patience}), t.instance)
	t.watcher.until("the instance", t.is("1", registry.Passing))
	began := time.Now()
	t.must(t.operator.Agent().ServiceDeregister(t.id))
	eventually(t, "the agent has it again", func() bool {
		entry, _, err := t.operator.Agent().Service(t.id, nil)
		return err == nil && entry.Meta["version"] == "1"
	})
	took := time.Since(began)
	t.Logf("back after %v", took)
	if took > slack*time.Second {
		t.Errorf("it was back after %v, want one second", took)
	}
	eventually(t, "it stands", func() bool { return g.Err() == nil })
	t.must(g.Deregister(within(t, patience)))
}

func testOperatorsMaintenanceSurvives(t *leaseTrial) {
	g := register(t, t.registry, t.instance)
	t.must(t.operator.Agent().EnableServiceMaintenance(t.id, "by hand"))
	t.watcher.until("the maintenance", t.is("1", registry.Maintenance))
	update(t, g, func(in *registry.Instance) { in.Version = "2" })
	t.watcher.until("the update", t.is("2", registry.Maintenance))
	update(t, g, func(in *registry.Instance) { in.Version, in.Status = "3", registry.Warning })
	t.watcher.until("the change of status", t.is("3", registry.Maintenance))
	t.again(g)
	if got := t.maintenance(); got != "by hand" {
		t.Errorf("after it was announced again the reason is %q", got)
	}
	t.must(t.operator.Agent().DisableServiceMaintenance(t.id))
	t.watcher.until("the end of the maintenance", t.is("3", registry.Warning))
}

func testOperatorsMaintenanceUnderItsOwn(t *leaseTrial) {
	g := register(t, t.registry, t.instance)
	t.must(t.operator.Agent().EnableServiceMaintenance(t.id, "by hand"))
	update(t, g, func(in *registry.Instance) { in.Version, in.Status = "2", registry.Maintenance })
	update(t, g, func(in *registry.Instance) { in.Version, in.Status = "3", registry.Passing })
	t.watcher.until("the last update", t.is("3", registry.Maintenance))
	if got := t.maintenance(); got != "by hand" {
		t.Errorf("the reason is %q", got)
	}
}

func testOwnMaintenanceEnds(t *leaseTrial) {
	g := register(t, t.registry, t.instance)
	for _, s := range []registry.Status{registry.Maintenance, registry.Critical, registry.Maintenance, registry.Warning, registry.Passing} {
		update(t, g, func(in *registry.Instance) { in.Status = s })
		t.watcher.until(s.String(), t.is("1", s))
		t.again(g)
		t.watcher.until(s.String()+" after it was announced again", t.is("1", s))
	}
	if got := t.maintenance(); got != "" {
		t.Errorf("maintenance is on, and the reason is %q", got)
	}
}

func testOwnMaintenanceNeverLooksPassing(t *leaseTrial) {
	t.instance.Status = registry.Maintenance
	register(t, t.registry, t.instance)
	t.watcher.until("the maintenance", t.is("1", registry.Maintenance))
	for _, p := range t.watcher.all() {
		if in := p.find("a"); in != nil && in.Status < registry.Critical {
			t.Errorf("it looked as if it took traffic: %v", p)
		}
	}
}

func testOwnMaintenanceOfADeadProcess(t *leaseTrial) {
	t.instance.Status = registry.Maintenance
	died := open(t, Config{Address: t.agent.Addr()})
	register(t, died, t.instance)
	t.watcher.until("the maintenance", t.is("1", registry.Maintenance))
	died.Close()
	t.instance.Status = registry.Passing
	register(t, t.registry, t.instance)
	t.watcher.until("the end of the maintenance", t.is("1", registry.Passing))
}

func testReplacedByAnotherTool(t *leaseTrial) {
	g := register(t, t.registry, t.instance)
	t.must(t.operator.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: t.id, Name: t.instance.Service, Port: 99}))
	eventually(t, "it stands aside", func() bool { return errors.Is(g.Err(), registry.ErrReplaced) })
	t.watcher.until("the other's entry", func(p pair) bool {
		return len(p.set) == 1 && p.set[0].ID == "a" && strings.HasSuffix(p.set[0].Address, ":99")
	})
	// It stays so: changes that are seen one after another, for longer than it would take to write it over.
	for n := range 8 {
		other := t.instance
		other.ID = fmt.Sprint("other", n)
		register(t, t.registry, other)
		p := t.watcher.until("a later change", func(p pair) bool { return len(p.set) == n+2 })
		if !strings.HasSuffix(p.find("a").Address, ":99") {
			t.Fatalf("the other's entry was written over: %v", p)
		}
	}
	t.must(g.Deregister(within(t, patience)))
	if _, _, err := t.operator.Agent().Service(t.id, nil); err != nil {
		t.Errorf("Deregister took the other's entry away: %v", err)
	}
	t.must(t.operator.Agent().ServiceDeregister(t.id))
}

func testReleaseLeavesAnothersEntry(t *leaseTrial) {
	old, fresh := t.lease(), t.lease()
	t.must(old.Release(t.Context()))
	if err := old.Keep(t.Context()); err != nil {
		t.Errorf("Keep after Release: %v", err)
	}
	if _, _, err := t.operator.Agent().Service(t.id, nil); err != nil {
		t.Errorf("the newer entry: %v", err)
	}
	t.must(fresh.Release(t.Context()))
	t.must(fresh.Release(t.Context()))
}

func testUpdateDoesNotTakeOver(t *leaseTrial) {
	old, fresh := t.lease(), t.lease()
	in := t.instance
	in.Version = "old"
	if err := old.Update(t.Context(), &in); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Update of the older lease: %v", err)
	}
	if err := old.Keep(t.Context()); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Keep of the older lease: %v", err)
	}
	t.watcher.until("the newer entry", t.is("1", registry.Passing))
	t.must(fresh.Release(t.Context()))
	if err := fresh.Update(t.Context(), &in); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Update of a released lease: %v", err)
	}
}

// lease announces the instance with a driver of its own.
func (t *leaseTrial) lease() registry.Lease {
	t.Helper()
	d, err := newDriver(Config{Address: t.agent.Addr()})
	t.must(err)
	t.Cleanup(func() { d.Close() })
	in := t.instance
	in.Weight = 1
	l, err := d.Announce(t.Context(), &in)
	t.must(err)
	return l
}

func testCatalogSeesNoHeartbeats(t *leaseTrial) {
	register(t, t.registry, t.instance)
	t.watcher.until("the instance", t.is("1", registry.Passing))
	index := func() uint64 {
		t.Helper()
		entries, _, err := t.operator.Health().Service(t.instance.Service, "", false, nil)
		t.must(err)
		return entries[0].Checks[len(entries[0].Checks)-1].ModifyIndex
	}
	before := index()
	heartbeats := func() (n int) {
		for _, r := range t.proxy.Log() {
			if r.Path == "/v1/agent/check/update/"+checkID(t.id) {
				n++
			}
		}
		return n
	}
	from := heartbeats()
	eventually(t, "three heartbeats", func() bool { return heartbeats() >= from+3 })
	if got := index(); got != before {
		t.Errorf("heartbeats have changed the catalog, from index %d to %d", before, got)
	}
}

// TestAgentReturnsWithNothing is the bar of the whole library: everybody is back within 3 s of the agent answering, and
// nobody who watches loses sight of anyone meanwhile.
func TestAgentReturnsWithNothing(t *testing.T) {
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	const instances = 5
	for i := range instances {
		register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: "10.0.0.1:80"})
	}
	w := watch(t, r, registry.Query{Service: "s"})
	w.until("all instances", healthy(instances))
	operator := operatorOf(t, agent)

	agent.Kill()
	w.until("an error", func(p pair) bool { return p.err != nil })
	up := firstTime(func() error { _, err := operator.Agent().Self(); return err })
	led := firstTime(func() error { _, _, err := operator.Catalog().Nodes(nil); return err })
	agent.Restart(false)
	listens, answers := <-up, <-led
	eventually(t, "all are back", func() bool {
		entries, _, err := operator.Health().Service("s", "", true, nil)
		return err == nil && len(entries) == instances
	})
	took := time.Since(answers)
	t.Logf("all %d instances passed again %v after the agent answered reads, which was %v after it listened",
		instances, took.Round(time.Millisecond), answers.Sub(listens).Round(time.Millisecond))
	if took > slack*3*time.Second {
		t.Errorf("it took %v, want 3 s", took)
	}
	w.until("all instances, without an error", healthy(instances))
	for _, p := range w.all()[1:] {
		if len(p.set) == 0 {
			t.Errorf("the watch lost sight of everybody: %v", p)
		}
	}
}

// firstTime returns a channel that gives the time when ok first returns nil.
func firstTime(ok func() error) <-chan time.Time {
	when := make(chan time.Time, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if ok() == nil {
				when <- time.Now()
				return
			}
		}
	}()
	return when
}

func TestAgentShutsDownInGoodOrder(t *testing.T) {
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	agent.Terminate()
	eventually(t, "the loss is noticed", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	agent.Restart(true)
	eventually(t, "it stands", func() bool { return g.Err() == nil })
}

// TestGuardIsNeverHot gives the read that should wait an answer at once, the same each time.
func TestGuardIsNeverHot(t *testing.T) {
	reads := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads++
		w.Header().Set("X-Consul-ContentHash", "same")
		fmt.Fprint(w, `{"ID":"s:a","Meta":{"rollcall-owner":"me.1.0"}}`)
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l := &lease{d: d, serviceID: "s:a", mark: mark{client: "me", lease: 1}, beating: make(chan struct{}, 1), released: make(chan struct{})}
	if err := l.Keep(within(t, 2*unchangedPause)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Keep returned %v", err)
	}
	if reads > 4 {
		t.Errorf("%d reads in %v", reads, 2*unchangedPause)
	}
}

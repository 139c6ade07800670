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

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestLease_OnAnAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*leaseTrial){
		"deregistered behind its back":                  testDeregisteredBehindItsBack,
		"operator's maintenance survives":               testOperatorsMaintenanceSurvives,
		"operator's maintenance under its own":          testOperatorsMaintenanceUnderItsOwn,
		"own maintenance ends":                          testOwnMaintenanceEnds,
		"own maintenance never looks passing":           testOwnMaintenanceNeverLooksPassing,
		"own maintenance of a process that died":        testOwnMaintenanceOfADeadProcess,
		"replaced by a registration of another program": testReplacedByAnotherTool,
		"released entry of another":                     testReleaseLeavesAnothersEntry,
		"updates do not take over":                      testUpdateDoesNotTakeOver,
		"heartbeats do not touch the catalog":           testCatalogSeesNoHeartbeats,
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, agent.Addr())
			r := open(t, Config{Address: proxy.Addr(), TTL: minTTL})
			service := fmt.Sprintf("s-%d", time.Now().UnixNano())
			test(&leaseTrial{
				T: t, agent: agent, proxy: proxy, registry: r, operator: operatorOf(t, agent), id: codec.ServiceID(service, "a"),
				instance: registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Version: "1"},
				watcher:  watchtest.Watch(t, r, registry.Query{Service: service, AnyStatus: true}),
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
	watcher  *watchtest.Watcher
}

func (t *leaseTrial) is(version string, s registry.Status) func(watchtest.Pair) bool {
	return func(p watchtest.Pair) bool {
		in := p.Find("a")
		return p.Err == nil && in != nil && in.Version == version && in.Status == s
	}
}

// maintenance returns the reason of the maintenance, or "" if the instance is not in maintenance.
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

// again makes r register g again, as after any outage.
func (t *leaseTrial) again(g registry.Registration) {
	t.Helper()
	t.proxy.Refuse()
	watchtest.Eventually(t, "the loss is noticed", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	t.proxy.Heal()
	watchtest.Eventually(t, "it is registered again", func() bool { return g.Err() == nil })
}

// The entry watch notices the loss: the next heartbeat comes after the test has failed.
func testDeregisteredBehindItsBack(t *leaseTrial) {
	g := watchtest.Register(t, open(t, Config{Address: t.proxy.Addr(), TTL: 4 * watchtest.Timeout}), t.instance)
	t.watcher.Until("the instance", t.is("1", registry.Passing))
	began := time.Now()
	t.must(t.operator.Agent().ServiceDeregister(t.id))
	watchtest.Eventually(t, "the agent has it again", func() bool {
		entry, _, err := t.operator.Agent().Service(t.id, nil)
		return err == nil && entry.Meta["version"] == "1"
	})
	t.Logf("back after %v", time.Since(began))
	watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	t.must(g.Deregister(watchtest.Context(t)))
}

func testOperatorsMaintenanceSurvives(t *leaseTrial) {
	g := watchtest.Register(t, t.registry, t.instance)
	t.must(t.operator.Agent().EnableServiceMaintenance(t.id, "by hand"))
	t.watcher.Until("the maintenance", t.is("1", registry.Maintenance))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	t.watcher.Until("the update", t.is("2", registry.Maintenance))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version, in.Status = "3", registry.Warning })
	t.watcher.Until("the change of status", t.is("3", registry.Maintenance))
	t.again(g)
	if got := t.maintenance(); got != "by hand" {
		t.Errorf("after it was registered again the reason is %q", got)
	}
	t.must(t.operator.Agent().DisableServiceMaintenance(t.id))
	t.watcher.Until("the end of the maintenance", t.is("3", registry.Warning))
}

func testOperatorsMaintenanceUnderItsOwn(t *leaseTrial) {
	g := watchtest.Register(t, t.registry, t.instance)
	t.must(t.operator.Agent().EnableServiceMaintenance(t.id, "by hand"))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version, in.Status = "2", registry.Maintenance })
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version, in.Status = "3", registry.Passing })
	t.watcher.Until("the last update", t.is("3", registry.Maintenance))
	if got := t.maintenance(); got != "by hand" {
		t.Errorf("the reason is %q", got)
	}
}

func testOwnMaintenanceEnds(t *leaseTrial) {
	g := watchtest.Register(t, t.registry, t.instance)
	for _, s := range []registry.Status{registry.Maintenance, registry.Critical, registry.Maintenance, registry.Warning, registry.Passing} {
		watchtest.Update(t, g, func(in *registry.Instance) { in.Status = s })
		t.watcher.Until(s.String(), t.is("1", s))
		t.again(g)
		t.watcher.Until(s.String()+" after it was registered again", t.is("1", s))
	}
	if got := t.maintenance(); got != "" {
		t.Errorf("maintenance is on, and the reason is %q", got)
	}
}

func testOwnMaintenanceNeverLooksPassing(t *leaseTrial) {
	t.instance.Status = registry.Maintenance
	watchtest.Register(t, t.registry, t.instance)
	t.watcher.Until("the maintenance", t.is("1", registry.Maintenance))
	for _, p := range t.watcher.All() {
		if in := p.Find("a"); in != nil && in.Status < registry.Critical {
			t.Errorf("the instance seemed to take traffic: %v", p)
		}
	}
}

func testOwnMaintenanceOfADeadProcess(t *leaseTrial) {
	t.instance.Status = registry.Maintenance
	died := open(t, Config{Address: t.agent.Addr(), Options: registry.Options{KeepOnClose: true}})
	watchtest.Register(t, died, t.instance)
	t.watcher.Until("the maintenance", t.is("1", registry.Maintenance))
	died.Close()
	t.instance.Status = registry.Passing
	watchtest.Register(t, t.registry, t.instance)
	t.watcher.Until("the end of the maintenance", t.is("1", registry.Passing))
}

func testReplacedByAnotherTool(t *leaseTrial) {
	g := watchtest.Register(t, t.registry, t.instance)
	t.must(t.operator.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: t.id, Name: t.instance.Service, Port: 99}))
	watchtest.Eventually(t, "it yields", func() bool { return errors.Is(g.Err(), registry.ErrReplaced) })
	t.watcher.Until("the other's entry", func(p watchtest.Pair) bool {
		return len(p.Set) == 1 && p.Set[0].ID == "a" && strings.HasSuffix(p.Set[0].Address, ":99")
	})
	// The newer entry stays. The changes below take longer than the older registration would need to replace it.
	for n := range 8 {
		other := t.instance
		other.ID = fmt.Sprint("other", n)
		watchtest.Register(t, t.registry, other)
		p := t.watcher.Until("a later change", func(p watchtest.Pair) bool { return len(p.Set) == n+2 })
		if !strings.HasSuffix(p.Find("a").Address, ":99") {
			t.Fatalf("the entry of the newer registration was replaced: %v", p)
		}
	}
	t.must(g.Deregister(watchtest.Context(t)))
	if _, _, err := t.operator.Agent().Service(t.id, nil); err != nil {
		t.Errorf("Deregister removed the entry of the newer registration: %v", err)
	}
	t.must(t.operator.Agent().ServiceDeregister(t.id))
}

func testReleaseLeavesAnothersEntry(t *leaseTrial) {
	old, fresh := t.lease(), t.lease()
	t.must(old.Release(t.Context()))
	if err := old.Wait(t.Context()); err != nil {
		t.Errorf("Wait after Release: %v", err)
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
	if err := old.Wait(t.Context()); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("Wait of the older lease: %v", err)
	}
	t.watcher.Until("the newer entry", t.is("1", registry.Passing))
	t.must(fresh.Release(t.Context()))
	if err := fresh.Update(t.Context(), &in); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Update of a released lease: %v", err)
	}
}

// lease registers the instance with a driver of its own.
func (t *leaseTrial) lease() registry.Lease {
	t.Helper()
	d, err := newDriver(Config{Address: t.agent.Addr()})
	t.must(err)
	t.Cleanup(func() { d.Close() })
	in := t.instance
	in.Weight = 1
	l, err := d.Register(t.Context(), &in, nil)
	t.must(err)
	return l
}

func testCatalogSeesNoHeartbeats(t *leaseTrial) {
	watchtest.Register(t, t.registry, t.instance)
	t.watcher.Until("the instance", t.is("1", registry.Passing))
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
	watchtest.Eventually(t, "three heartbeats", func() bool { return heartbeats() >= from+3 })
	if got := index(); got != before {
		t.Errorf("heartbeats have changed the catalog, from index %d to %d", before, got)
	}
}

// This is what the whole library is measured by. If the agent loses its data, every instance is back within 3 s of the agent's first
// answer, and no watch loses an instance meanwhile.
func TestRegistration_ReturnsAfterTheAgentLostItsData(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	const instances = 5
	for i := range instances {
		watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: "10.0.0.1:80"})
	}
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("all instances", watchtest.Healthy(instances))
	operator := operatorOf(t, agent)

	agent.Kill()
	w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	up := firstTime(func() error { _, err := operator.Agent().Self(); return err })
	led := firstTime(func() error { _, _, err := operator.Catalog().Nodes(nil); return err })
	agent.Restart(false)
	listens, answers := <-up, <-led
	watchtest.Eventually(t, "all are back", func() bool {
		entries, _, err := operator.Health().Service("s", "", true, nil)
		return err == nil && len(entries) == instances
	})
	took := time.Since(answers)
	t.Logf("all %d instances passed again %v after the agent answered reads, which was %v after it listened",
		instances, took.Round(time.Millisecond), answers.Sub(listens).Round(time.Millisecond))
	if took > slack*3*time.Second {
		t.Errorf("it took %v, want 3 s", took)
	}
	w.Until("all instances, without an error", watchtest.Healthy(instances))
	for _, p := range w.All()[1:] {
		if len(p.Set) == 0 {
			t.Errorf("the watch yielded an empty set: %v", p)
		}
	}
}

// firstTime returns a channel that receives the time when ok returns nil for the first time.
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

func TestRegistration_NoticesThatTheAgentShutsDown(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	agent.Terminate()
	watchtest.Eventually(t, "the loss is noticed", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	agent.Restart(true)
	watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
}

// The agent answers a read that should wait at once, each time with the same entry.
func TestWait_PausesBetweenEqualAnswers(t *testing.T) {
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
	l := bareLease(d, "s:a", codec.Owner{Client: "me", Lease: 1})
	if err := l.Wait(watchtest.Within(t, 2*unchangedPause)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait returned %v", err)
	}
	if reads > 4 {
		t.Errorf("%d reads in %v", reads, 2*unchangedPause)
	}
}

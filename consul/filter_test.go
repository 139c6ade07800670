package consul

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestFilterOnAnAgent(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*testing.T, *testbed.Consul){
		"Consul selects":             testConsulSelects,
		"any value":                  testAnyValue,
		"what nobody can select":     testWhatCannotBeSelected,
		"an expression of one's own": testOwnExpression,
		"connect":                    testConnect,
	} {
		t.Run(name, func(t *testing.T) { test(t, agent) })
	}
}

// received returns the IDs that a read brings, before package registry selects.
func received(t *testing.T, c Config, q registry.Query) string {
	t.Helper()
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	set, err := d.Follow(q).Next(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, in := range set {
		ids = append(ids, in.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func testConsulSelects(t *testing.T, agent *testbed.Consul) {
	c := Config{Address: agent.Addr()}
	r := open(t, c)
	service := uniqueService()
	for _, in := range []registry.Instance{
		{ID: "a", Tags: []string{"blue", "x"}, Version: "1", Metadata: map[string]string{"k": "v", "l-m": "w"}},
		{ID: "b", Tags: []string{"blue"}, Version: "2", Metadata: map[string]string{"k": "v"}},
		{ID: "c", Version: "2", Metadata: map[string]string{"k": "other"}},
	} {
		in.Service, in.Address = service, "10.0.0.1:80"
		g := register(t, r, in)
		defer g.Deregister(within(t, patience))
	}
	watch(t, r, registry.Query{Service: service}).until("all", healthy(3))
	for want, q := range map[string]registry.Query{
		"a b c": {},
		"a b":   {Tags: []string{"blue"}},
		"a":     {Tags: []string{"blue", "x"}},
		"b c":   {Version: "2"},
		"b":     {Version: "2", Metadata: map[string]string{"k": "v"}},
		"":      {Version: "3"},
	} {
		q.Service = service
		if got := received(t, c, q); got != want {
			t.Errorf("%+v brings %q, want %q", q, got, want)
		}
	}
	if got := received(t, c, registry.Query{Service: service, Metadata: map[string]string{"l-m": "w"}}); got != "a" {
		t.Errorf("a key with a hyphen brings %q", got)
	}
}

// Nothing that can be announced breaks the expression, or is left out by it.
func testAnyValue(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	service := uniqueService()
	for i, v := range []string{
		`"`, `\`, `\"`, `"\`, `\\"`, "`", "'", "\n", "\t\r", "é", "日本", "\u2028", "😀", "$(x)", `") or (1 == 1`, " ", "a b", "%22", `\x22`, "true", "1", "\u0085",
	} {
		id := fmt.Sprintf("v%d", i)
		in := registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80", Version: v, Metadata: map[string]string{"k": v}}
		g := register(t, r, in)
		defer g.Deregister(within(t, patience))
		q := registry.Query{Service: service, Version: v, Metadata: map[string]string{"k": v}}
		if p := watch(t, r, q).until("the instance with "+v, healthy(1)); p.set[0].ID != id {
			t.Errorf("%q brings %s", v, p.set[0].ID)
		}
		if got := received(t, Config{Address: agent.Addr()}, q); got != id {
			t.Errorf("%q brings %q", v, got)
		}
	}
}

// Version and metadata that do not stand where Consul would look.
func testWhatCannotBeSelected(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	service := uniqueService()
	long := strings.Repeat("long ", 200)
	meta := map[string]string{"with.dot": "1", "long": long, "plain": "x"}
	for i := range 100 {
		meta[fmt.Sprintf("k%03d", i)] = "v" // more than Consul takes: some go to the overflow
	}
	g := register(t, r, registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Version: long, Metadata: meta})
	defer g.Deregister(within(t, patience))
	for k, v := range meta {
		set, err := r.Lookup(within(t, patience), registry.Query{Service: service, Version: long, Metadata: map[string]string{k: v}})
		if err != nil || len(set) != 1 {
			t.Errorf("by %s it is %v, %v", k, set, err)
		}
	}
	operator := operatorOf(t, agent)
	theirs := foreign(service, 81)
	theirs.Meta = map[string]string{"version": "7", "k": "v"}
	if err := operator.Agent().ServiceRegister(theirs); err != nil {
		t.Fatal(err)
	}
	watch(t, r, registry.Query{Service: service, Version: "7", Metadata: map[string]string{"k": "v"}}).until("the entry of others", healthy(1))
	if err := operator.Agent().ServiceDeregister(service); err != nil {
		t.Error(err)
	}
}

func testOwnExpression(t *testing.T, agent *testbed.Consul) {
	service := uniqueService()
	plain := open(t, Config{Address: agent.Addr()})
	for i, id := range []string{"a", "b"} {
		g := register(t, plain, registry.Instance{ID: id, Service: service, Address: fmt.Sprintf("10.0.0.1:8%d", i), Version: "1"})
		defer g.Deregister(within(t, patience))
	}
	c := Config{Address: agent.Addr(), Filter: `Service.Port == 80 or Service.Port == 82`}
	w := watch(t, open(t, c), registry.Query{Service: service, Version: "1"})
	if p := w.until("what the expression selects", healthy(1)); p.set[0].ID != "a" {
		t.Errorf("it selects %v", p)
	}
	g := register(t, plain, registry.Instance{ID: "c", Service: service, Address: "10.0.0.1:82", Version: "1"})
	w.until("what came later", healthy(2))
	other := register(t, plain, registry.Instance{ID: "d", Service: service, Address: "10.0.0.1:82", Version: "2"})
	defer other.Deregister(within(t, patience))
	if got := received(t, c, registry.Query{Service: service, Version: "1"}); got != "a c" {
		t.Errorf("both together bring %q", got)
	}
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	w.until("what is left", healthy(1))

	_, err := open(t, Config{Address: agent.Addr(), Filter: "Service.Port ="}).Lookup(within(t, patience), registry.Query{Service: service})
	wantRefusal(t, err, "Filter (filter)", "1:15")
}

func testConnect(t *testing.T, agent *testbed.Consul) {
	operator := operatorOf(t, agent)
	service := uniqueService()
	w := watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: service, AnyStatus: true})
	w.until("nothing", healthy(0))
	plain := foreign(service, 80) // not in the mesh
	plain.ID = "plain"
	native := foreign(service, 81)
	native.ID, native.Connect = "native", &api.AgentServiceConnect{Native: true}
	behind := foreign(service, 82)
	behind.ID = service + ":behind"
	behind.Meta = map[string]string{"version": "5"}
	behind.Connect = &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Port: 21082, Address: "10.0.0.9"}}
	for _, s := range []*api.AgentServiceRegistration{plain, native, behind} {
		if err := operator.Agent().ServiceRegister(s); err != nil {
			t.Fatal(err)
		}
	}
	p := w.until("both", healthy(2))
	got := map[string]string{}
	for _, in := range p.set {
		got[in.ID] = in.Service + " " + in.Version + " " + in.Address
	}
	want := map[string]string{"behind": service + " 5 10.0.0.9:21082", "native": service + "  127.0.0.1:81"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

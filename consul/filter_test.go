package consul

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestFilter_OnAnAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	for name, test := range map[string]func(*testing.T, *testbed.Consul){
		"Consul selects":             testConsulSelects,
		"any value":                  testAnyValue,
		"what no query can select":   testWhatCannotBeSelected,
		"an expression of one's own": testOwnExpression,
		"connect":                    testConnect,
		"documented selectors":       testDocumentedSelectors,
	} {
		t.Run(name, func(t *testing.T) { test(t, agent) })
	}
}

// Consul knows the selectors that the doc of Config.Filter names, and refuses others.
func testDocumentedSelectors(t *testing.T, agent *testbed.Consul) {
	for expression, ok := range map[string]bool{
		`Node.Meta.rack == "7"`: true, `"blue" in Service.Tags`: true, `Service.Meta.env == "prod"`: true, `Service.Service == "hello"`: true, `Checks.Status == "passing"`: true,
		`Service == "hello"`: false, `ServiceName == "hello"`: false, `NodeMeta.rack == "7"`: false,
	} {
		_, err := open(t, Config{Address: agent.Addr(), Filter: expression}).Lookup(watchtest.Context(t), registry.Query{Service: uniqueService()})
		if ok && err != nil || !ok && !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// received returns the IDs that a read returns, before package registry selects among them.
func received(t *testing.T, c Config, q registry.Query) string {
	t.Helper()
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	set, err := d.Watch(q).Next(watchtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, in := range set.Instances {
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
		g := watchtest.Register(t, r, in)
		defer g.Deregister(watchtest.Context(t))
	}
	watchtest.Watch(t, r, registry.Query{Service: service}).Until("all", watchtest.Healthy(3))
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

// For every value that can be registered, the expression is valid and finds the instance.
func testAnyValue(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	service := uniqueService()
	for i, v := range []string{
		`"`, `\`, `\"`, `"\`, `\\"`, "`", "'", "\n", "\t\r", "é", "日本", "\u2028", "😀", "$(x)", `") or (1 == 1`, " ", "a b", "%22", `\x22`, "true", "1", "\u0085",
	} {
		id := fmt.Sprintf("v%d", i)
		in := registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80", Version: v, Metadata: map[string]string{"k": v}}
		g := watchtest.Register(t, r, in)
		defer g.Deregister(watchtest.Context(t))
		q := registry.Query{Service: service, Version: v, Metadata: map[string]string{"k": v}}
		if p := watchtest.Watch(t, r, q).Until("the instance with "+v, watchtest.Healthy(1)); p.Set[0].ID != id {
			t.Errorf("%q brings %s", v, p.Set[0].ID)
		}
		if got := received(t, Config{Address: agent.Addr()}, q); got != id {
			t.Errorf("%q brings %q", v, got)
		}
	}
}

// Consul does not look at these places for the version and the metadata.
func testWhatCannotBeSelected(t *testing.T, agent *testbed.Consul) {
	r := open(t, Config{Address: agent.Addr()})
	service := uniqueService()
	long := strings.Repeat("long ", 200)
	meta := map[string]string{"with.dot": "1", "long": long, "plain": "x"}
	for i := range 100 {
		meta[fmt.Sprintf("k%03d", i)] = "v" // more than Consul takes: some go to the overflow
	}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Version: long, Metadata: meta})
	defer g.Deregister(watchtest.Context(t))
	for k, v := range meta {
		set, err := r.Lookup(watchtest.Context(t), registry.Query{Service: service, Version: long, Metadata: map[string]string{k: v}})
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
	watchtest.Watch(t, r, registry.Query{Service: service, Version: "7", Metadata: map[string]string{"k": "v"}}).Until("the entry of others", watchtest.Healthy(1))
	if err := operator.Agent().ServiceDeregister(service); err != nil {
		t.Error(err)
	}
}

func testOwnExpression(t *testing.T, agent *testbed.Consul) {
	service := uniqueService()
	plain := open(t, Config{Address: agent.Addr()})
	for i, id := range []string{"a", "b"} {
		g := watchtest.Register(t, plain, registry.Instance{ID: id, Service: service, Address: fmt.Sprintf("10.0.0.1:8%d", i), Version: "1"})
		defer g.Deregister(watchtest.Context(t))
	}
	c := Config{Address: agent.Addr(), Filter: `Service.Port == 80 or Service.Port == 82`}
	w := watchtest.Watch(t, open(t, c), registry.Query{Service: service, Version: "1"})
	if p := w.Until("what the expression selects", watchtest.Healthy(1)); p.Set[0].ID != "a" {
		t.Errorf("it selects %v", p)
	}
	g := watchtest.Register(t, plain, registry.Instance{ID: "c", Service: service, Address: "10.0.0.1:82", Version: "1"})
	w.Until("what came later", watchtest.Healthy(2))
	other := watchtest.Register(t, plain, registry.Instance{ID: "d", Service: service, Address: "10.0.0.1:82", Version: "2"})
	defer other.Deregister(watchtest.Context(t))
	if got := received(t, c, registry.Query{Service: service, Version: "1"}); got != "a c" {
		t.Errorf("both together bring %q", got)
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	w.Until("what is left", watchtest.Healthy(1))

	_, err := open(t, Config{Address: agent.Addr(), Filter: "Service.Port ="}).Lookup(watchtest.Context(t), registry.Query{Service: service})
	configtest.WantRefusal(t, err, "Filter (filter)", "1:15")
}

func testConnect(t *testing.T, agent *testbed.Consul) {
	operator := operatorOf(t, agent)
	service := uniqueService()
	w := watchtest.Watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: service, AnyStatus: true})
	w.Until("nothing", watchtest.Healthy(0))
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
	p := w.Until("both", watchtest.Healthy(2))
	got := map[string]string{}
	for _, in := range p.Set {
		got[in.ID] = in.Service + " " + in.Version + " " + in.Address
	}
	want := map[string]string{"behind": service + " 5 10.0.0.9:21082", "native": service + "  127.0.0.1:81"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

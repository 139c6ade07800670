package consul

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSidecar_IsRegisteredWithTheInstance(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	// Consul connects to a sidecar every 10 s, beginning at a random moment. This listener is the sidecar.
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	r := open(t, Config{Address: agent.Addr(), Sidecar: true, SidecarPort: proxy.Addr().(*net.TCPAddr).Port})
	plain := watchtest.Watch(t, r, registry.Query{Service: "s"})
	mesh := watchtest.Watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: "s"})
	g := watchtest.Register(t, r, registry.Instance{ID: "A", Service: "s", Address: "127.0.0.1:1", Version: "1", Metadata: map[string]string{"a key": "v"}})
	at := func(address string) func(watchtest.Pair) bool {
		return func(p watchtest.Pair) bool {
			in := p.Find("A")
			return in != nil && in.Address == address && in.Version == "1" && in.Metadata["a key"] == "v"
		}
	}
	plain.Until("the instance", at("127.0.0.1:1"))
	mesh.Until("its sidecar, under its ID, as passing", at(proxy.Addr().String()))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Zone = "z" })
	mesh.Until("the update", func(p watchtest.Pair) bool { in := p.Find("A"); return in != nil && in.Zone == "z" })

	if err := g.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	mesh.Until("nothing", func(p watchtest.Pair) bool { return len(p.Set) == 0 })
	services, err := operator.Agent().Services()
	if err != nil || len(services) != 0 {
		t.Errorf("%d services are left: %v", len(services), err)
	}
	checks, err := operator.Agent().Checks()
	if err != nil || len(checks) != 0 {
		t.Errorf("%d checks are left: %v", len(checks), err)
	}
}

// If a process comes back without a sidecar, its earlier sidecar is removed.
func TestSidecar_OfAnEarlierConfiguration(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	in := registry.Instance{ID: "a", Service: "s", Address: "127.0.0.1:1", Weight: 1}
	d, err := newDriver(Config{Address: agent.Addr(), Sidecar: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Register(t.Context(), &in, nil); err != nil { // and ends without Deregister
		t.Fatal(err)
	}
	const sidecar = "s:a-sidecar-proxy"
	if services, err := operator.Agent().Services(); err != nil || services[sidecar] == nil {
		t.Fatalf("at first there is no sidecar: %v, %v", services, err)
	}
	r := open(t, Config{Address: agent.Addr()})
	watchtest.Register(t, r, in)
	if services, err := operator.Agent().Services(); err != nil || services[sidecar] != nil || services["s:a"] == nil {
		t.Errorf("the agent has %v, %v", services, err)
	}
	in.ID = "b-sidecar-proxy"
	other := watchtest.Register(t, r, in)
	in.ID = "b"
	watchtest.Register(t, r, in)
	if services, err := operator.Agent().Services(); err != nil || len(services) != 3 || other.Err() != nil {
		t.Errorf("beside an instance with the name of a sidecar, the agent has %v, %v", services, err)
	}
}

func TestRegister_ConnectNative(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	mesh := watchtest.Watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: "s"})
	watchtest.Register(t, open(t, Config{Address: agent.Addr(), ConnectNative: true}), registry.Instance{ID: "a", Service: "s", Address: "h:1"})
	mesh.Until("the instance", func(p watchtest.Pair) bool { in := p.Find("a"); return in != nil && in.Address == "h:1" })
}

func TestSidecar_NamesWhatItRefuses(t *testing.T) {
	for _, c := range []Config{{Sidecar: true, ConnectNative: true}, {SidecarPort: 1}, {Sidecar: true, SidecarPort: -1}, {Sidecar: true, SidecarPort: 65536}} {
		if err := c.check(); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// Consul derives the name of a sidecar from the ID of its instance. Another entry with such a name is not regarded as our sidecar.
func TestServiceID_OfAnInstanceNamedAsASidecar(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	in := registry.Instance{ID: "a", Service: "s", Address: "127.0.0.1:1"}
	other := registry.Instance{ID: "a-sidecar-proxy", Service: "s", Address: "127.0.0.1:2"}
	for name, c := range map[string]Config{"without": {}, "with": {Sidecar: true}} {
		t.Run("another instance, "+name+" sidecars", func(t *testing.T) {
			c.Address = agent.Addr()
			r := open(t, c)
			w := watchtest.Watch(t, r, registry.Query{Service: "s", AnyStatus: true})
			second := watchtest.Register(t, r, other)
			first := watchtest.Register(t, r, in)
			p := w.Until("both", watchtest.Healthy(2))
			if p.Find("a") == nil || p.Find("a-sidecar-proxy") == nil || p.Find("a-sidecar-proxy").Address != other.Address {
				t.Errorf("there are %v", p)
			}
			watchtest.Update(t, first, func(in *registry.Instance) { in.Status = registry.Warning })
			watchtest.Update(t, second, func(in *registry.Instance) { in.Status = registry.Warning })
			for _, p := range w.All()[slices.IndexFunc(w.All(), watchtest.Healthy(2)):] {
				if len(p.Set) != 2 {
					t.Errorf("in between there was %v", p)
				}
			}
			for _, g := range []registry.Registration{first, second} {
				if err := g.Deregister(watchtest.Context(t)); err != nil {
					t.Error(err)
				}
			}
			if services, err := operator.Agent().Services(); err != nil || len(services) != 0 {
				t.Errorf("%d services are left: %v", len(services), err)
			}
		})
	}
	t.Run("an operator's sidecar", func(t *testing.T) {
		const sidecar = "s:a-sidecar-proxy"
		err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: sidecar, Name: "s-sidecar-proxy", Kind: api.ServiceKindConnectProxy, Port: 21000,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "s", DestinationServiceID: "s:a"},
			Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing},
		})
		if err != nil {
			t.Fatal(err)
		}
		g := watchtest.Register(t, open(t, Config{Address: agent.Addr()}), in)
		watchtest.Update(t, g, func(in *registry.Instance) { in.Status = registry.Warning })
		if services, err := operator.Agent().Services(); err != nil || services[sidecar] == nil {
			t.Errorf("the entry of another program was removed: %v", err)
		}
	})
}

package consul

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSidecar(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	// Consul connects to a sidecar every 10 s, from a random moment on; no sidecar listens here but this.
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	r := open(t, Config{Address: agent.Addr(), Sidecar: true, SidecarPort: proxy.Addr().(*net.TCPAddr).Port})
	plain := watch(t, r, registry.Query{Service: "s"})
	mesh := watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: "s"})
	g := register(t, r, registry.Instance{ID: "A", Service: "s", Address: "127.0.0.1:1", Version: "1", Metadata: map[string]string{"a key": "v"}})
	at := func(address string) func(pair) bool {
		return func(p pair) bool {
			in := p.find("A")
			return in != nil && in.Address == address && in.Version == "1" && in.Metadata["a key"] == "v"
		}
	}
	plain.until("the instance", at("127.0.0.1:1"))
	mesh.until("its sidecar, under its ID, as passing", at(proxy.Addr().String()))
	update(t, g, func(in *registry.Instance) { in.Zone = "z" })
	mesh.until("the update", func(p pair) bool { in := p.find("A"); return in != nil && in.Zone == "z" })

	if err := g.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	mesh.until("nothing", func(p pair) bool { return len(p.set) == 0 })
	services, err := operator.Agent().Services()
	if err != nil || len(services) != 0 {
		t.Errorf("%d services are left: %v", len(services), err)
	}
	checks, err := operator.Agent().Checks()
	if err != nil || len(checks) != 0 {
		t.Errorf("%d checks are left: %v", len(checks), err)
	}
}

// A process that comes back without its sidecar leaves none behind.
func TestSidecarOfAnEarlierConfiguration(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	in := registry.Instance{ID: "a", Service: "s", Address: "127.0.0.1:1", Weight: 1}
	d, err := newDriver(Config{Address: agent.Addr(), Sidecar: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Announce(t.Context(), &in); err != nil { // and dies without a word
		t.Fatal(err)
	}
	const sidecar = "s:a-sidecar-proxy"
	if services, err := operator.Agent().Services(); err != nil || services[sidecar] == nil {
		t.Fatalf("there is no sidecar to begin with: %v, %v", services, err)
	}
	r := open(t, Config{Address: agent.Addr()})
	register(t, r, in)
	if services, err := operator.Agent().Services(); err != nil || services[sidecar] != nil || services["s:a"] == nil {
		t.Errorf("the agent has %v, %v", services, err)
	}
	in.ID = "b-sidecar-proxy"
	other := register(t, r, in)
	in.ID = "b"
	register(t, r, in)
	if services, err := operator.Agent().Services(); err != nil || len(services) != 3 || other.Err() != nil {
		t.Errorf("beside an instance that is named as a sidecar is, the agent has %v, %v", services, err)
	}
}

func TestConnectNative(t *testing.T) {
	agent := testbed.StartConsul(t)
	mesh := watch(t, open(t, Config{Address: agent.Addr(), Connect: true}), registry.Query{Service: "s"})
	register(t, open(t, Config{Address: agent.Addr(), ConnectNative: true}), registry.Instance{ID: "a", Service: "s", Address: "h:1"})
	mesh.until("the instance", func(p pair) bool { in := p.find("a"); return in != nil && in.Address == "h:1" })
}

func TestSidecarRefusals(t *testing.T) {
	for _, c := range []Config{{Sidecar: true, ConnectNative: true}, {SidecarPort: 1}, {Sidecar: true, SidecarPort: -1}, {Sidecar: true, SidecarPort: 65536}} {
		if err := c.check(); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// Consul names a sidecar by the ID of what is behind it, which is no reason to take anything else of that name for one of ours.
func TestWhatHasTheNameOfASidecar(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	in := registry.Instance{ID: "a", Service: "s", Address: "127.0.0.1:1"}
	other := registry.Instance{ID: "a-sidecar-proxy", Service: "s", Address: "127.0.0.1:2"}
	for name, c := range map[string]Config{"without": {}, "with": {Sidecar: true}} {
		t.Run("another instance, "+name+" sidecars", func(t *testing.T) {
			c.Address = agent.Addr()
			r := open(t, c)
			w := watch(t, r, registry.Query{Service: "s", AnyStatus: true})
			second := register(t, r, other)
			first := register(t, r, in)
			p := w.until("both", healthy(2))
			if p.find("a") == nil || p.find("a-sidecar-proxy") == nil || p.find("a-sidecar-proxy").Address != other.Address {
				t.Errorf("there are %v", p)
			}
			update(t, first, func(in *registry.Instance) { in.Status = registry.Warning })
			update(t, second, func(in *registry.Instance) { in.Status = registry.Warning })
			for _, p := range w.all()[slices.IndexFunc(w.all(), healthy(2)):] {
				if len(p.set) != 2 {
					t.Errorf("in between there was %v", p)
				}
			}
			for _, g := range []registry.Registration{first, second} {
				if err := g.Deregister(within(t, patience)); err != nil {
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
		g := register(t, open(t, Config{Address: agent.Addr()}), in)
		update(t, g, func(in *registry.Instance) { in.Status = registry.Warning })
		if services, err := operator.Agent().Services(); err != nil || services[sidecar] == nil {
			t.Errorf("it was taken for one of ours, and removed: %v", err)
		}
	})
}

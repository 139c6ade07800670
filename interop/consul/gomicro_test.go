package consul_test

import (
	"slices"
	"testing"
	"time"

	micro "github.com/go-micro/plugins/v4/registry/consul"
	microregistry "go-micro.dev/v4/registry"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_FindsRegistrationsOfGoMicro(t *testing.T) {
	agent, r := start(t)
	theirs := micro.NewRegistry(microregistry.Addrs(agent.Addr()))
	service := &microregistry.Service{
		Name: "greeter", Version: "1.2",
		Nodes: []*microregistry.Node{{Id: "greeter-1", Address: "10.0.0.1:80", Metadata: map[string]string{"protocol": "grpc"}}},
	}
	if err := theirs.Register(service, microregistry.RegisterTTL(60*time.Second)); err != nil {
		t.Fatal(err)
	}
	w := watchtest.Watch(t, r, registry.Query{Service: "greeter"})
	in := w.Until("the registration", watchtest.At("10.0.0.1:80")).Set[0]
	if in.ID != "greeter-1" || in.Metadata["protocol"] != "grpc" {
		t.Errorf("it is %+v", in)
	}
	if err := theirs.Deregister(service); err != nil {
		t.Fatal(err)
	}
	w.Until("the deregistration", watchtest.Healthy(0))
}

func TestRegister_IsFoundByGoMicro(t *testing.T) {
	agent, r := start(t)
	theirs := micro.NewRegistry(microregistry.Addrs(agent.Addr()))
	have := func() (all []string) {
		services, err := theirs.GetService("greeter")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range services {
			for _, n := range s.Nodes {
				all = append(all, n.Address)
			}
		}
		slices.Sort(all)
		return all
	}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: "10.0.0.1:80"})
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: "10.0.0.2:80"})
	watchtest.Eventually(t, "go-micro has both", func() bool { return slices.Equal(have(), []string{"10.0.0.1:80", "10.0.0.2:80"}) })
	watchtest.Deregister(t, g)
	watchtest.Eventually(t, "go-micro has the other", func() bool { return slices.Equal(have(), []string{"10.0.0.2:80"}) })
}

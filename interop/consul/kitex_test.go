package consul_test

import (
	"context"
	"slices"
	"testing"

	"github.com/cloudwego/kitex/pkg/discovery"
	kitexregistry "github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	kitex "github.com/kitex-contrib/registry-consul"

	"github.com/rollcall-go/rollcall/internal/grpctest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_FindsRegistrationsOfKitex(t *testing.T) {
	agent, r := start(t)
	theirs, err := kitex.NewConsulRegister(agent.Addr())
	if err != nil {
		t.Fatal(err)
	}
	// Their check connects to the address, so a server has to listen there.
	address := grpctest.StartServer(t)
	info := &kitexregistry.Info{
		ServiceName: "greeter", Addr: utils.NewNetAddr("tcp", address), Weight: 10, Tags: map[string]string{"cluster": "blue", "url": "a:b"},
	}
	if err := theirs.Register(info); err != nil {
		t.Fatal(err)
	}
	w := watchtest.Watch(t, r, registry.Query{Service: "greeter"})
	in := w.Until("the registration", watchtest.At(address)).Set[0]
	if in.ID != address || in.Weight != 10 || in.Metadata["cluster"] != "blue" || in.Metadata["url"] != "a:b" {
		t.Errorf("it is %+v", in)
	}
	if err := theirs.Deregister(info); err != nil {
		t.Fatal(err)
	}
	w.Until("the deregistration", watchtest.Healthy(0))
}

func TestRegister_IsFoundByKitex(t *testing.T) {
	agent, r := start(t)
	theirs, err := kitex.NewConsulResolver(agent.Addr())
	if err != nil {
		t.Fatal(err)
	}
	resolve := func() []discovery.Instance {
		result, err := theirs.Resolve(context.Background(), "greeter")
		if err != nil {
			return nil // theirs for none
		}
		return result.Instances
	}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: "10.0.0.1:80", Weight: 7, Tags: []string{"cluster:blue"}})
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: "10.0.0.2:80"})
	watchtest.Eventually(t, "kitex has both", func() bool { return len(resolve()) == 2 })
	all := resolve()
	i := slices.IndexFunc(all, func(in discovery.Instance) bool { return in.Address().String() == "10.0.0.1:80" })
	if i < 0 {
		t.Fatalf("it has %v", all)
	}
	if cluster, _ := all[i].Tag("cluster"); all[i].Weight() != 7 || cluster != "blue" {
		t.Errorf("it has %v of weight %d in %q", all[i].Address(), all[i].Weight(), cluster)
	}
	watchtest.Deregister(t, g)
	watchtest.Eventually(t, "kitex has the other", func() bool { all := resolve(); return len(all) == 1 && all[0].Address().String() == "10.0.0.2:80" })
}

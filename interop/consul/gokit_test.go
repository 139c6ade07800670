package consul_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	gokit "github.com/go-kit/kit/sd/consul"
	"github.com/go-kit/log"
	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func gokitClient(t *testing.T, address string) gokit.Client {
	t.Helper()
	client, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	return gokit.NewClient(client)
}

func TestWatch_FindsRegistrationsOfGoKit(t *testing.T) {
	agent, r := start(t)
	const address = "10.0.0.1:80"
	host, portText, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(portText)
	theirs := gokit.NewRegistrar(gokitClient(t, agent.Addr()), &api.AgentServiceRegistration{
		ID: "greeter-1", Name: "greeter", Address: host, Port: port, Tags: []string{"blue"}, Meta: map[string]string{"version": "1.2"},
	}, log.NewNopLogger())
	theirs.Register()
	w := watchtest.Watch(t, r, registry.Query{Service: "greeter"})
	in := w.Until("the registration", watchtest.At(address)).Set[0]
	if in.ID != "greeter-1" || in.Version != "1.2" || !slices.Equal(in.Tags, []string{"blue"}) {
		t.Errorf("it is %+v", in)
	}
	theirs.Deregister()
	w.Until("the deregistration", watchtest.Healthy(0))
}

func TestRegister_IsFoundByGoKit(t *testing.T) {
	agent, r := start(t)
	instancer := gokit.NewInstancer(gokitClient(t, agent.Addr()), log.NewNopLogger(), "greeter", []string{"blue"}, true)
	t.Cleanup(instancer.Stop)
	endpoints := sd.NewEndpointer(instancer, func(instance string) (endpoint.Endpoint, io.Closer, error) {
		return func(context.Context, any) (any, error) { return instance, nil }, nil, nil
	}, log.NewNopLogger())
	t.Cleanup(endpoints.Close)
	have := func() (all []string) {
		them, err := endpoints.Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range them {
			at, _ := e(t.Context(), nil)
			all = append(all, at.(string))
		}
		slices.Sort(all)
		return all
	}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: "10.0.0.1:80", Tags: []string{"blue"}})
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: "10.0.0.2:80", Tags: []string{"blue"}})
	watchtest.Register(t, r, registry.Instance{ID: "c", Service: "greeter", Address: "10.0.0.3:80"})
	watchtest.Eventually(t, "go-kit has the two with the tag", func() bool { return slices.Equal(have(), []string{"10.0.0.1:80", "10.0.0.2:80"}) })
	watchtest.Deregister(t, g)
	watchtest.Eventually(t, "go-kit has the other", func() bool { return slices.Equal(have(), []string{"10.0.0.2:80"}) })
}

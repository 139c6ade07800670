package consul

import (
	"context"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestConformance(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry { return open(t, Config{Address: proxy.Addr()}) },
		Lose: func(t *testing.T, in registry.Instance) {
			o := new(api.QueryOptions).WithContext(context.Background())
			if err := operator.Agent().ServiceDeregisterOpts(serviceID(in.Service, in.ID), o); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			proxy.Refuse()
			return proxy.Heal
		},
		Calls:    func(*testing.T) int { return proxy.Requests() },
		Complete: true,
	})
}

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

// TestConformanceBetweenTwoAgents has two ways to one agent: whatever holds at one address holds at two.
func TestConformanceBetweenTwoAgents(t *testing.T) {
	agent := testbed.StartConsul(t)
	first, second := testbed.NewProxy(t, agent.Addr()), testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return open(t, Config{Address: first.Addr() + "," + second.Addr()})
		},
		Lose: func(t *testing.T, in registry.Instance) {
			o := new(api.QueryOptions).WithContext(context.Background())
			if err := operator.Agent().ServiceDeregisterOpts(serviceID(in.Service, in.ID), o); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			first.Refuse()
			second.Refuse()
			return func() {
				first.Heal()
				second.Heal()
			}
		},
		Calls: func(*testing.T) int {
			n := 0
			for _, r := range append(first.Log(), second.Log()...) {
				if r.Path != "/v1/status/leader" { // the probes have a rhythm of their own
					n++
				}
			}
			return n
		},
		Complete: true,
	})
}

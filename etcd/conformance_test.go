package etcd

import (
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestConformance(t *testing.T) {
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	operator := operatorOf(t, server)
	calls := new(meter)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return openWith(t, Config{Endpoints: []string{way.addr()}}, calls.option())
		},
		Lose: func(t *testing.T, in registry.Instance) {
			deleted, err := operator.Delete(within(t, patience), DefaultPrefix+in.Service+"/"+in.ID)
			if err != nil || deleted.Deleted != 1 {
				t.Fatalf("there is no %s/%s to lose: %v", in.Service, in.ID, err)
			}
		},
		Break: func(*testing.T) func() {
			way.cut()
			return way.heal
		},
		Calls:    func(*testing.T) int { return int(calls.sent.Load()) },
		Complete: true,
	})
}

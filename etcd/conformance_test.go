package etcd

import (
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestConformance(t *testing.T) {
	conforms(t, testbed.StartEtcd(t))
}

func TestConformanceOnACluster(t *testing.T) {
	conforms(t, testbed.StartEtcdCluster(t).Members...)
}

// conforms runs the suite on the members of one etcd. Calls go to all of them in turn.
func conforms(t *testing.T, members ...*testbed.Etcd) {
	var ways []*network
	var endpoints []string
	for _, m := range members {
		way := newNetwork(t, m.Addr())
		ways, endpoints = append(ways, way), append(endpoints, way.addr())
	}
	operator := operatorOf(t, members[0])
	calls := new(meter)
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return openWith(t, Config{Endpoints: endpoints}, calls.option())
		},
		Lose: func(t *testing.T, in registry.Instance) {
			deleted, err := operator.Delete(within(t, patience), DefaultPrefix+in.Service+"/"+in.ID)
			if err != nil || deleted.Deleted != 1 {
				t.Fatalf("there is no %s/%s to lose: %v", in.Service, in.ID, err)
			}
		},
		Break: func(*testing.T) func() {
			for _, way := range ways {
				way.cut()
			}
			return func() {
				for _, way := range ways {
					way.heal()
				}
			}
		},
		Calls:    func(*testing.T) int { return int(calls.sent.Load()) },
		Complete: true,
	})
}

package consul

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// If another program deletes an entry from the catalog, the agent alone restores it after minutes. The driver reads the catalog once in
// each Wait, and registers the instance again.
func TestRegistration_ReturnsIfTheCatalogLosesIt(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	r := open(t, Config{Address: agent.Addr(), Wait: minWait})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1"})
	w.Until("the instance", watchtest.Healthy(1))
	created := func() uint64 {
		entries, _, err := operator.Health().Service("s", "", true, nil)
		if err != nil || len(entries) != 1 {
			return 0
		}
		return entries[0].Service.CreateIndex
	}
	before := created()
	if _, err := operator.Catalog().Deregister(&api.CatalogDeregistration{Node: agent.Node(), ServiceID: "s:a"}, nil); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the catalog has another entry of it", func() bool { now := created(); return now != 0 && now != before })
	w.Until("the instance again", watchtest.Healthy(1))
	watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
}

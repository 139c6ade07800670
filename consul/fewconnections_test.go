package consul

import (
	"fmt"
	"net"
	"sync"
	"testing"

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Other programs use nearly all connections of the agent. Registrations succeed and watches see each change all the same, only later:
// no call fails with 429 for good.
func TestRegister_WorksWithFewFreeConnections(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	const registered, watched, left = 40, 45, 15
	w := &manyWatches{t: t, operator: keptAlive(t, agent)}
	for i := range watched {
		w.change(i, 1) // also so that the operator has a connection
	}
	for range 200 - left {
		c, err := net.Dial("tcp", agent.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}

	d, err := newDriver(Config{Address: agent.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	r := watchtest.NewRegistry(t, d, registry.Options{})
	registrations := make([]registry.Registration, registered)
	var work sync.WaitGroup
	for i := range registrations {
		work.Go(func() {
			in := registry.Instance{ID: fmt.Sprint(i), Service: "many", Address: fmt.Sprintf("127.0.0.1:%d", 1000+i)}
			var err error
			if registrations[i], err = r.Register(watchtest.Context(t), in); err != nil {
				t.Error(err)
			}
		})
	}
	if work.Wait(); t.Failed() {
		return
	}
	all := watchtest.Watch(t, r, registry.Query{Service: "many"})
	all.Until("all instances", watchtest.Healthy(registered))
	for i := range watched {
		w.watchers = append(w.watchers, watchtest.Watch(t, r, registry.Query{Service: w.service(i)}))
	}
	for i := range watched {
		w.until(i, 1)
	}
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	if err := w.operator.Agent().ServiceDeregister("many:7"); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "what was removed is back, and everything is registered", func() bool {
		for _, g := range registrations {
			if g.Err() != nil {
				return false
			}
		}
		entry, _, err := w.operator.Agent().Service("many:7", nil)
		return err == nil && entry.Port == 1007
	})
	for _, seen := range append(w.watchers, all) {
		for _, p := range seen.All() {
			if len(p.Set) == 0 && p.Err == nil {
				t.Errorf("there was %v", p)
			}
		}
	}
	if !d.agent.Limiter.Reduced(agentpkg.Watch) {
		t.Error("the agent has refused no connection, so this test shows nothing")
	}
}

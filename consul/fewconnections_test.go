package consul

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// Other programs have nearly all of the connections of the agent. Announcements come to stand and watches see each change all
// the same, if late: nothing is stuck on 429.
func TestAFewConnectionsForACrowd(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	const announced, watched, left = 40, 45, 15
	w := &crowdOf{t: t, operator: keptAlive(t, agent)}
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
	r := registry.New(d, registry.Options{Logger: discard()})
	t.Cleanup(func() { r.Close() })
	held := make([]registry.Registration, announced)
	var work sync.WaitGroup
	for i := range held {
		work.Go(func() {
			in := registry.Instance{ID: fmt.Sprint(i), Service: "many", Address: fmt.Sprintf("127.0.0.1:%d", 1000+i)}
			var err error
			if held[i], err = r.Register(within(t, patience), in); err != nil {
				t.Error(err)
			}
		})
	}
	if work.Wait(); t.Failed() {
		return
	}
	all := watch(t, r, registry.Query{Service: "many"})
	all.until("all instances", healthy(announced))
	for i := range watched {
		w.watchers = append(w.watchers, watch(t, r, registry.Query{Service: w.service(i)}))
	}
	for i := range watched {
		w.until(i, 1)
	}
	took := w.changeSome(2)
	t.Logf("%d changes took %v in the middle, %v at most", len(took), took[len(took)/2], took[len(took)-1])
	if err := w.operator.Agent().ServiceDeregister("many:7"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was removed is back, and everything stands", func() bool {
		for _, g := range held {
			if g.Err() != nil {
				return false
			}
		}
		entry, _, err := w.operator.Agent().Service("many:7", nil)
		return err == nil && entry.Port == 1007
	})
	for _, seen := range append(w.watchers, all) {
		for _, p := range seen.all() {
			if len(p.set) == 0 && p.err == nil {
				t.Errorf("there was %v", p)
			}
		}
	}
	d.agent.crowd.mu.Lock()
	defer d.agent.crowd.mu.Unlock()
	if l := d.agent.crowd.lanes[watching].first; l.limit >= l.most {
		t.Error("the agent has refused nothing, so this shows nothing")
	}
}

package consul

import (
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// An entry that somebody deletes from the catalog behind its agent's back is the agent's to restore. It does so with the next
// update at once, and otherwise in its own time.
func TestDeletedFromTheCatalog(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	r := open(t, Config{Address: agent.Addr()})
	w := watch(t, r, registry.Query{Service: "s"})
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1"})
	w.until("the instance", healthy(1))

	if _, err := operator.Catalog().Deregister(&api.CatalogDeregistration{Node: agent.Node(), ServiceID: "s:a"}, nil); err != nil {
		t.Fatal(err)
	}
	deleted := time.Now()
	w.until("that it is gone", healthy(0))
	if *slow {
		for {
			entries, _, err := operator.Health().Service("s", "", true, nil)
			if err == nil && len(entries) == 1 {
				break
			}
			if time.Since(deleted) > 5*time.Minute {
				t.Fatal("the agent has not restored it")
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("the agent has restored it after %v", time.Since(deleted).Round(time.Second))
	} else {
		update(t, g, func(in *registry.Instance) { in.Version = "2" })
	}
	w.until("the instance again", healthy(1))
	if err := g.Err(); err != nil {
		t.Error(err)
	}
}

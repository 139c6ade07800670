package consul

import (
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// Three nodes stand in a row, and Consul knows how far each is from the others.
func TestNearestOnAnAgent(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	place := func(i int, status string) {
		t.Helper()
		node := fmt.Sprint("n", i)
		_, err := operator.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: fmt.Sprintf("10.0.0.%d", i),
			Service: &api.AgentService{ID: "s:" + node, Service: "s", Port: 80},
			Check:   &api.AgentCheck{Node: node, CheckID: "c", Name: "c", ServiceID: "s:" + node, Status: status},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		place(i, api.HealthPassing)
		at := coordinate.NewCoordinate(coordinate.DefaultConfig())
		at.Vec[0] = float64(i) * 0.1 // seconds
		if _, err := operator.Coordinate().Update(&api.CoordinateEntry{Node: fmt.Sprint("n", i), Coord: at}, nil); err != nil {
			t.Fatal(err)
		}
	}
	is := func(ids ...string) func(pair) bool {
		return func(p pair) bool {
			for _, id := range ids {
				if p.find(id) == nil {
					return false
				}
			}
			return healthy(len(ids))(p)
		}
	}
	eventually(t, "Consul has the coordinates", func() bool { // which it writes every 5 s
		nodes, _, err := operator.Coordinate().Nodes(nil)
		return err == nil && len(nodes) >= 3
	})
	q := registry.Query{Service: "s"}
	for _, c := range []struct {
		near  string
		limit int
		want  []string
	}{{"n0", 1, []string{"n0"}}, {"n2", 1, []string{"n2"}}, {"n2", 2, []string{"n1", "n2"}}, {"n0", 2, []string{"n0", "n1"}}, {"n0", 5, []string{"n0", "n1", "n2"}}} {
		set, err := open(t, Config{Address: agent.Addr(), Near: c.near, Limit: c.limit}).Lookup(within(t, patience), q)
		if !is(c.want...)(pair{set, err}) {
			t.Errorf("the %d nearest to %s are %v", c.limit, c.near, pair{set, err})
		}
	}
	w := watch(t, open(t, Config{Address: agent.Addr(), Near: "n2", Limit: 1}), q)
	w.until("the nearest", is("n2"))
	place(2, api.HealthCritical)
	w.until("the next one", is("n1"))
	place(2, api.HealthPassing)
	w.until("the nearest again", is("n2"))
}

package consul

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Consul knows the distances between three nodes in a row.
func TestNear_OnAnAgent(t *testing.T) {
	t.Parallel()
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
		at := new(api.CoordinateEntry) // whose first coordinate is in seconds
		if err := json.Unmarshal(fmt.Appendf(nil, `{"Node":"n%d","Coord":{"Vec":[%g,0,0,0,0,0,0,0],"Error":1.5,"Height":1e-5}}`, i, float64(i)*0.1), at); err != nil {
			t.Fatal(err)
		}
		if _, err := operator.Coordinate().Update(at, nil); err != nil {
			t.Fatal(err)
		}
	}
	is := func(ids ...string) func(watchtest.Pair) bool {
		return func(p watchtest.Pair) bool {
			for _, id := range ids {
				if p.Find(id) == nil {
					return false
				}
			}
			return watchtest.Healthy(len(ids))(p)
		}
	}
	watchtest.Eventually(t, "Consul has the coordinates", func() bool { // which it writes every 5 s
		nodes, _, err := operator.Coordinate().Nodes(nil)
		return err == nil && len(nodes) >= 3
	})
	q := registry.Query{Service: "s"}
	for _, c := range []struct {
		near  string
		limit int
		want  []string
	}{{"n0", 1, []string{"n0"}}, {"n2", 1, []string{"n2"}}, {"n2", 2, []string{"n1", "n2"}}, {"n0", 2, []string{"n0", "n1"}}, {"n0", 5, []string{"n0", "n1", "n2"}}} {
		set, err := open(t, Config{Address: agent.Addr(), Near: c.near, Limit: c.limit}).Lookup(watchtest.Context(t), q)
		if !is(c.want...)(watchtest.Pair{Set: set, Err: err}) {
			t.Errorf("the %d nearest to %s are %v", c.limit, c.near, watchtest.Pair{Set: set, Err: err})
		}
	}
	w := watchtest.Watch(t, open(t, Config{Address: agent.Addr(), Near: "n2", Limit: 1}), q)
	w.Until("the nearest", is("n2"))
	place(2, api.HealthCritical)
	w.Until("the next one", is("n1"))
	place(2, api.HealthPassing)
	w.Until("the nearest again", is("n2"))
}

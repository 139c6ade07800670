package consul

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// A server that starts again replays its log while it answers already, each time with more of what there was.
func TestARestartShowsNoPartOfTheSet(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	entry := func(i int) *api.CatalogRegistration {
		return &api.CatalogRegistration{Node: fmt.Sprint("node-", i/100), Address: "10.0.0.1",
			Service: &api.AgentService{ID: fmt.Sprint("s-", i), Service: "s", Port: i + 1}}
	}
	const entries, writers = 2000, 8 // one at a time, as services register
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := w; i < entries; i += writers {
				if _, err := operator.Catalog().Register(entry(i), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	watches := make([]*watcher, 12)
	for i := range watches {
		watches[i] = watch(t, open(t, Config{Address: agent.Addr()}), registry.Query{Service: "s"})
		watches[i].until("all instances", healthy(entries))
	}
	began := make([]int, len(watches))
	for i, w := range watches {
		began[i] = len(w.all())
	}

	for restart := range 2 {
		agent.Restart(true)
		if _, err := operator.Catalog().Register(entry(entries+restart), nil); err != nil {
			t.Fatal(err)
		}
		for _, w := range watches {
			w.until("the instance that came after", healthy(entries+restart+1))
		}
	}
	for i, w := range watches {
		for _, p := range w.all()[began[i]:] {
			if len(p.set) < entries {
				t.Errorf("watch %d saw %d of %d instances", i, len(p.set), entries)
			}
		}
	}
}

// Behind a client agent the connection stands while its server starts again, and what tells is the index.
func TestAfterAFallOfTheIndexAReadIsConsistent(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []answer
		want    []bool
	}{
		{"in a wait", []answer{set("10", "a", "b"), set("5", "a"), set("6", "a", "b")}, []bool{false, false, true}},
		{"after a wait", []answer{set("10", "a", "b"), set("10", "a", "b"), set("5", "a"), set("6", "a", "b")}, []bool{false, false, false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, script := scripted(t, Config{}, registry.Query{Service: "s"}, c.answers...)
			for range 2 {
				if got := next(t, src); got != "a b" {
					t.Errorf("got %q", got)
				}
			}
			if !slices.Equal(script.consistent, c.want) {
				t.Errorf("which reads were consistent: %v, want %v", script.consistent, c.want)
			}
		})
	}
}

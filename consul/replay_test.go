package consul

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A server that restarts answers while it replays its log, each time with more of the earlier instances.
func TestWatch_ShowsNoPartOfTheSetAfterARestart(t *testing.T) {
	t.Parallel()
	t.Run("without ACLs", func(t *testing.T) {
		t.Parallel()
		testRestartShowsNoPart(t, testbed.ConsulOptions{})
	})
	// The token is in the log too.
	const token = "00000000-0000-0000-0000-00000000feed"
	t.Run("with ACLs", func(t *testing.T) {
		t.Parallel()
		testRestartShowsNoPart(t, testbed.ConsulOptions{Token: token, Config: fmt.Sprintf(`
			acl {
				enabled = true
				default_policy = "deny"
				tokens { initial_management = %[1]q, agent = %[1]q }
			}`, token)})
	})
}

func testRestartShowsNoPart(t *testing.T, o testbed.ConsulOptions) {
	agent := testbed.StartConsul(t, o)
	operator := operatorOf(t, agent)
	operator.AddHeader("X-Consul-Token", o.Token)
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
	watches := make([]*watchtest.Watcher, 12)
	for i := range watches {
		watches[i] = watchtest.Watch(t, open(t, Config{Address: agent.Addr(), Token: registry.NewSecret(o.Token)}), registry.Query{Service: "s"})
		watches[i].Until("all instances", watchtest.Healthy(entries))
	}
	began := make([]int, len(watches))
	for i, w := range watches {
		began[i] = len(w.All())
	}

	for restart := range 2 {
		agent.Restart(true)
		if _, err := operator.Catalog().Register(entry(entries+restart), nil); err != nil {
			t.Fatal(err)
		}
		for _, w := range watches {
			w.Until("the instance that came after", watchtest.Healthy(entries+restart+1))
		}
	}
	for i, w := range watches {
		for _, p := range w.All()[began[i]:] {
			if len(p.Set) < entries {
				t.Errorf("watch %d saw %d of %d instances", i, len(p.Set), entries)
			}
		}
	}
}

func TestNext_WhichReadsAreConsistent(t *testing.T) {
	first, second := set("10", "a", "b"), set("11", "a", "b")
	unready := answer{status: 500, body: notReady}
	for _, c := range []struct {
		name    string
		answers []answer // after the first set and before the second
		failed  int      // reads that say nothing but an error
		want    []bool
	}{
		// The connection to a client agent stays open while its server restarts, so only the index shows the restart.
		{"the index fell in a wait", []answer{set("5", "a")}, 0, []bool{false, false, true}},
		{"the index fell after a wait", []answer{first, set("5", "a")}, 0, []bool{false, false, false, true}},
		{"a connection broke", []answer{{drop: true}}, 1, []bool{false, false, true}},
		{"a connection broke in an answer", []answer{{index: "11", body: "[", cut: true}}, 1, []bool{false, false, true}},
		{"there were no servers", []answer{{status: 500, body: "No known Consul servers"}}, 1, []bool{false, false, true}},
		{"it asked too often", []answer{{status: 429, body: "rate limit"}}, 1, []bool{false, false, false}},
		{"the servers knew of no token yet", []answer{{drop: true}, {status: 403, body: "ACL not found"}}, 2, []bool{false, false, true, true}},
		{"the leader never took office", []answer{{drop: true}, unready, unready, unready}, 4, []bool{false, false, true, true, true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, script := scripted(t, Config{}, registry.Query{Service: "s"}, slices.Concat([]answer{first}, c.answers, []answer{second})...)
			if got := next(t, src); got != "a b" {
				t.Errorf("got %q", got)
			}
			for range c.failed {
				if got := next(t, src); !strings.HasPrefix(got, "error: ") {
					t.Errorf("got %q", got)
				}
			}
			if got := next(t, src); got != "a b" {
				t.Errorf("got %q in the end", got)
			}
			if !slices.Equal(script.consistent, c.want) {
				t.Errorf("which reads were consistent: %v, want %v", script.consistent, c.want)
			}
		})
	}
}

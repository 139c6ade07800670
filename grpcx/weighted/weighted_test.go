package weighted_test

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// instances have the addresses a, b, c and so on.
func instances(weights ...int) []registry.Instance {
	out := make([]registry.Instance, len(weights))
	for i, w := range weights {
		out[i] = registry.Instance{Address: string(rune('a' + i)), Weight: w}
	}
	return out
}

func resolved(t *testing.T, c *policytest.Channel, endpoints []resolver.Endpoint) {
	t.Helper()
	if err := c.Resolve(endpoints...); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestPolicy_SharesAreExact(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1}, {5, 1, 1}, {100, 300, 200}, {1}, {0, 2, 3}, {65535, 65535}, {7, 11, 13, 17}} {
		bubble.Test(t, func(t *testing.T) {
			c := policytest.New(t, weighted.Name, `{}`)
			resolved(t, c, policytest.Endpoints(t, instances(weights...)...))
			sum := 0
			for _, w := range weights {
				sum += w
			}
			got := c.Counts(t, sum)
			for i, w := range weights {
				if who := string(rune('a' + i)); got[who] != w {
					t.Errorf("%v: %s gets %d calls of %d, want %d", weights, who, got[who], sum, w)
				}
			}
		})
	}
}

func TestPolicy_SpreadsCallsOfInstanceEvenly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, policytest.Endpoints(t, instances(5, 1, 1)...))
		s := strings.Join(c.Picks(t, 70), "")
		if strings.Contains(s, "aaaaa") || !strings.Contains(s, "aabacaa") && !strings.Contains(s, "aacabaa") {
			t.Errorf("the picks are %s", s)
		}
		resolved(t, c, policytest.Endpoints(t, instances(2, 2, 2, 2)...))
		for range 10 {
			if got := c.Counts(t, 4); len(got) != 4 {
				t.Errorf("four picks of four equal instances are %v", got)
			}
		}
	})
}

func TestPolicy_ClientsStartAtRandomPlaces(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		first := map[string]bool{}
		endpoints := policytest.Endpoints(t, instances(5, 1, 1)...)
		for range 100 {
			c := policytest.New(t, weighted.Name, `{}`)
			resolved(t, c, endpoints)
			first[c.Picks(t, 1)[0]] = true
		}
		if len(first) == 1 { // by chance: (5/7)¹⁰⁰
			t.Errorf("a hundred clients make their first call to one: %v", first)
		}
	})
}

func TestPolicy_KeepsConnectionsWhenWeightsChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, policytest.Endpoints(t, instances(1, 1, 1)...))
		for _, weights := range [][]int{{1, 2, 3}, {30, 20, 10}, {0, 1, 1}, {1, 0, 5}, {9, 9, 9}} {
			resolved(t, c, policytest.Endpoints(t, instances(weights...)...))
			got := c.Counts(t, 60)
			sum := weights[0] + weights[1] + weights[2]
			for i, w := range weights {
				if who := string(rune('a' + i)); got[who] != w*60/sum {
					t.Errorf("%v: %s gets %d calls of 60, want %d", weights, who, got[who], w*60/sum)
				}
			}
		}
		if n := c.Made(); n != 3 {
			t.Errorf("%d connections were made to 3 instances", n)
		}
	})
}

func TestPolicy_DrainedInstanceIsLastResort(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, policytest.Endpoints(t, instances(0, 3, 0)...))
		if got := c.Counts(t, 100); got["b"] != 100 {
			t.Errorf("the picks are %v", got)
		}
		c.Down("b")
		synctest.Wait()
		if got := c.Counts(t, 100); got["a"] != 50 || got["c"] != 50 {
			t.Errorf("with b down the picks are %v", got)
		}
		c.Up("b")
		synctest.Wait()
		if got := c.Counts(t, 100); got["b"] != 100 {
			t.Errorf("with b back the picks are %v", got)
		}
	})
}

func TestPolicy_PicksReadyInstancesOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, policytest.Endpoints(t, instances(1, 2, 3)...))
		check := func(when string, want map[string]int) {
			t.Helper()
			synctest.Wait()
			if got := c.Counts(t, 60); !maps.Equal(got, want) {
				t.Errorf("%s the picks are %v, want %v", when, got, want)
			}
		}
		check("at first", map[string]int{"a": 10, "b": 20, "c": 30})
		c.Down("c")
		check("with c down", map[string]int{"a": 20, "b": 40})
		c.Healthy("b", false)
		check("with b unhealthy too", map[string]int{"a": 60})
		c.Up("c")
		check("with c back", map[string]int{"a": 15, "c": 45})
		c.Healthy("b", true)
		check("with b back", map[string]int{"a": 10, "b": 20, "c": 30})

		for _, who := range []string{"a", "b", "c"} {
			c.Down(who)
		}
		synctest.Wait()
		if _, _, err := c.Pick(balancer.PickInfo{}); err == nil || !strings.Contains(err.Error(), policytest.ErrDown.Error()) {
			t.Errorf("with all down a pick says %v", err)
		}
	})
}

func TestPolicy_FailsWithTextOfResolver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, policytest.Endpoints(t, instances(1, 2)...))
		c.Report(errors.New("the registry is away"))
		if got := c.Counts(t, 30); got["a"] != 10 {
			t.Errorf("after an error of the resolver the picks are %v", got)
		}
		c.FailsWithTextOfResolver(t)
		resolved(t, c, policytest.Endpoints(t, instances(0, 2)...))
		if got := c.Counts(t, 30); got["b"] != 30 {
			t.Errorf("with instances back the picks are %v", got)
		}
	})
}

// Resolvers of other packages set no weight.
func TestPolicy_EndpointsOfAnotherResolver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, weighted.Name, `{}`)
		resolved(t, c, []resolver.Endpoint{
			{Addresses: []resolver.Address{{Addr: "a"}}},
			{Addresses: []resolver.Address{{Addr: "b"}}},
		})
		if got := c.Counts(t, 30); got["a"] != 15 || got["b"] != 15 {
			t.Errorf("the picks are %v", got)
		}
	})
}

func TestPolicy_PicksWhileWeightsChange(t *testing.T) {
	c := policytest.New(t, weighted.Name, `{}`)
	if err := c.Resolve(policytest.Endpoints(t, instances(1, 1, 1, 1)...)...); err != nil {
		t.Fatal(err)
	}
	for c.State().ConnectivityState != connectivity.Ready {
		c.Turn()
	}
	var work sync.WaitGroup
	var stop atomic.Bool
	var total atomic.Int64
	for range 8 {
		work.Go(func() {
			for !stop.Load() {
				if _, _, err := c.Pick(balancer.PickInfo{}); err != nil {
					t.Errorf("a pick says %v", err)
					return
				}
				total.Add(1)
			}
		})
	}
	for i := range 200 {
		if err := c.Resolve(policytest.Endpoints(t, instances(1+i%3, i%2, 40000*(i%2), 7)...)...); err != nil {
			t.Error(err)
		}
		if i%10 == 0 {
			c.Down("b")
			c.Up("b")
		}
	}
	stop.Store(true)
	work.Wait()
	if total.Load() == 0 {
		t.Error("nothing was picked")
	}
}

func TestPicker_AllocatesNothing(t *testing.T) {
	c := policytest.New(t, weighted.Name, `{}`)
	if err := c.Resolve(policytest.Endpoints(t, instances(1, 2, 3)...)...); err != nil {
		t.Fatal(err)
	}
	for c.State().ConnectivityState != connectivity.Ready {
		c.Turn()
	}
	picker := c.State().Picker
	if n := testing.AllocsPerRun(1000, func() { picker.Pick(balancer.PickInfo{}) }); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}

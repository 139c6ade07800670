package zone_test

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const here = `{"zone":"here","threshold":0.7}`

// in returns n instances of weight 1 in zone z, with the addresses z0, z1 and so on.
func in(z string, n int) []registry.Instance {
	out := make([]registry.Instance, n)
	for i := range out {
		out[i] = registry.Instance{Address: fmt.Sprintf("%s%d", z, i), Zone: z, Weight: 1}
	}
	return out
}

func resolved(t *testing.T, c *policytest.Channel, instances ...registry.Instance) {
	t.Helper()
	if err := c.Resolve(policytest.Endpoints(t, instances...)...); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// stay returns the share of picks that instances in zone z get, in thousandths.
func stay(t *testing.T, c *policytest.Channel, z string) int {
	t.Helper()
	synctest.Wait()
	n := 0
	for who, calls := range c.Counts(t, 1000) {
		if strings.HasPrefix(who, z) {
			n += calls
		}
	}
	return n
}

func TestPolicy_CallsSpillOverAndComeBack(t *testing.T) {
	for _, c := range []struct {
		config string
		// want has the share of calls that stay, in thousandths, by the number of lost instances of 10.
		want [11]int
	}{
		{here, [11]int{1000, 1000, 1000, 1000, 857, 714, 571, 429, 286, 143, 0}},
		{`{"zone":"here"}`, [11]int{1000, 1000, 1000, 1000, 857, 714, 571, 429, 286, 143, 0}},
		{`{"zone":"here","threshold":1}`, [11]int{1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0}},
		{`{"zone":"here","threshold":0.2,"later":[]}`, [11]int{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 500, 0}},
	} {
		bubble.Test(t, func(t *testing.T) {
			ch := policytest.New(t, zone.Name, c.config)
			resolved(t, ch, append(in("here", 10), in("there", 4)...)...)
			check := func(lost int) {
				t.Helper()
				if got, want := stay(t, ch, "here"), c.want[lost]; math.Abs(float64(got-want)) > 1 {
					t.Errorf("%s: with %d of 10 lost, %d of 1000 calls stay, want %d", c.config, lost, got, want)
				}
			}
			check(0)
			for i := range 10 {
				ch.Down(fmt.Sprint("here", i))
				check(i + 1)
			}
			for i := range 10 {
				ch.Up(fmt.Sprint("here", i))
				check(9 - i)
			}
		})
	}
}

func TestPolicy_OtherZonesAreNoBetter(t *testing.T) {
	for _, c := range []struct {
		own, other int // ready, of 10
		want       int
	}{
		{5, 7, 714}, // the others can take it all
		{5, 2, 714}, // and just what is missing: 5/7 + 2/7 = 1
		{5, 1, 833}, // 5/7 of 6/7
		{2, 2, 500},
		{1, 3, 250},
		{3, 0, 1000},
		{0, 1, 0},
		{7, 0, 1000},
	} {
		bubble.Test(t, func(t *testing.T) {
			ch := policytest.New(t, zone.Name, here)
			resolved(t, ch, append(in("here", 10), in("there", 10)...)...)
			for i := range 10 {
				if i >= c.own {
					ch.Down(fmt.Sprint("here", i))
				}
				if i >= c.other {
					ch.Down(fmt.Sprint("there", i))
				}
			}
			if got := stay(t, ch, "here"); math.Abs(float64(got-c.want)) > 1 {
				t.Errorf("with %d and %d of 10 ready, %d of 1000 calls stay, want %d", c.own, c.other, got, c.want)
			}
		})
	}
}

func TestPolicy_SpreadsSpilledCallsEvenly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, `{"zone":"here","threshold":1}`)
		resolved(t, c, append(in("here", 4), append(in("there", 2), in("yonder", 1)...)...)...)
		c.Down("here0")
		synctest.Wait()
		want := map[string]int{"here1": 100, "here2": 100, "here3": 100, "there0": 33, "there1": 33, "yonder0": 34}
		got := c.Counts(t, 400)
		for who, n := range want {
			if got[who] < n-2 || got[who] > n+2 {
				t.Errorf("of 400 picks %s gets %d, want about %d", who, got[who], n)
			}
		}
		away := 0
		for i, who := range c.Picks(t, 400) {
			if !strings.HasPrefix(who, "here") {
				if away != 0 && i-away != 4 {
					t.Fatalf("picks %d and %d leave the zone, want every fourth", away, i)
				}
				away = i
			}
		}
	})
}

// Whether a call leaves the zone must not decide which instance it gets.
func TestPolicy_SpreadsHalfThatLeavesEvenly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, `{"zone":"here","threshold":1}`)
		resolved(t, c, append(in("here", 4), in("there", 2)...)...)
		c.Down("here0")
		c.Down("here1")
		synctest.Wait()
		got := c.Counts(t, 400)
		for _, who := range []string{"here2", "here3", "there0", "there1"} {
			if got[who] < 99 || got[who] > 101 {
				t.Errorf("the picks are %v, want 100 each", got)
			}
		}
	})
}

func TestPolicy_WeightsCountWithinZone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		set := append(in("here", 3), in("there", 2)...)
		set[0].Weight, set[1].Weight, set[2].Weight = 3, 1, 0
		set[3].Weight = 4
		resolved(t, c, set...)
		if got, want := c.Counts(t, 40), (map[string]int{"here0": 30, "here1": 10}); !maps.Equal(got, want) {
			t.Errorf("the picks are %v, want %v", got, want)
		}
		c.Down("here0")
		c.Down("here1")
		synctest.Wait()
		if got, want := c.Counts(t, 40), (map[string]int{"there0": 32, "there1": 8}); !maps.Equal(got, want) {
			t.Errorf("with only a drained instance in the own zone the picks are %v, want %v", got, want)
		}
		c.Down("there0")
		c.Down("there1")
		synctest.Wait()
		if got, want := c.Counts(t, 40), (map[string]int{"here2": 40}); !maps.Equal(got, want) {
			t.Errorf("with only a drained instance the picks are %v, want %v", got, want)
		}
	})
}

func TestPolicy_NewInstancesDoNotCountYet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		resolved(t, c, append(in("here", 2), in("there", 2)...)...)
		c.Hang("here2", "here3", "here4", "here5")
		resolved(t, c, append(in("here", 6), in("there", 2)...)...)
		if got := stay(t, c, "here"); got != 1000 {
			t.Errorf("while four new ones connect, %d of 1000 calls stay", got)
		}
		c.Down("here2") // its connection fails: 2 of 3
		if got := stay(t, c, "here"); got < 951 || got > 953 {
			t.Errorf("after one connection has failed, %d of 1000 calls stay, want 952", got)
		}
		for _, a := range []string{"here2", "here3", "here4", "here5"} {
			c.Up(a)
		}
		if got := stay(t, c, "here"); got != 1000 || len(c.Counts(t, 6)) != 6 {
			t.Errorf("with all connected, %d of 1000 calls stay", got)
		}
	})
}

func TestPolicy_UnhealthyInstancesAreNotReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		resolved(t, c, append(in("here", 2), in("there", 2)...)...)
		c.Healthy("here0", false)
		if got := stay(t, c, "here"); got < 713 || got > 715 {
			t.Errorf("with one of two unhealthy, %d of 1000 calls stay, want 714", got)
		}
		if got := c.Counts(t, 100)["here0"]; got != 0 {
			t.Errorf("the unhealthy one gets %d calls", got)
		}
		c.Healthy("here0", true)
		if got := stay(t, c, "here"); got != 1000 {
			t.Errorf("with both healthy, %d of 1000 calls stay", got)
		}
	})
}

func TestParseConfig_ReadsZoneFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		config, variable string
		want             map[string]int
	}{
		{`{}`, "", map[string]int{"here0": 20, "there0": 20}},
		{`{}`, "there", map[string]int{"there0": 40}},
		{`{"zone":""}`, "there", map[string]int{"there0": 40}},
		{`{"zone":"here"}`, "there", map[string]int{"here0": 40}},
		{`{"zone":"nowhere"}`, "there", map[string]int{"here0": 20, "there0": 20}},
	} {
		t.Setenv(zone.Variable, c.variable)
		bubble.Test(t, func(t *testing.T) {
			ch := policytest.New(t, zone.Name, c.config)
			resolved(t, ch, append(in("here", 1), in("there", 1)...)...)
			if got := ch.Counts(t, 40); !maps.Equal(got, c.want) {
				t.Errorf("%s and the variable %q: the picks are %v, want %v", c.config, c.variable, got, c.want)
			}
		})
	}
}

// An instance without a zone is in no client's zone.
func TestPolicy_InstancesWithoutZone(t *testing.T) {
	t.Setenv(zone.Variable, "")
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		resolved(t, c, append(in("here", 1), registry.Instance{Address: "nowhere", Weight: 1})...)
		if got := c.Counts(t, 10)["here0"]; got != 10 {
			t.Errorf("the own zone gets %d of 10 calls", got)
		}
		c = policytest.New(t, zone.Name, `{}`)
		resolved(t, c, append(in("here", 1), registry.Instance{Address: "a", Weight: 1}, registry.Instance{Address: "b", Weight: 1})...)
		if got := c.Counts(t, 30); got["a"] != 10 || got["here0"] != 10 {
			t.Errorf("to a client without a zone the picks are %v", got)
		}
		c.Down("a")
		c.Down("here0")
		synctest.Wait()
		if got := c.Counts(t, 10)["b"]; got != 10 {
			t.Errorf("what is left gets %d of 10 calls", got)
		}
	})
}

func TestPolicy_KeepsConnectionsWhenZonesChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		set := append(in("here", 2), in("there", 2)...)
		resolved(t, c, set...)
		for i := range set {
			set[i].Zone = map[string]string{"here": "there", "there": "here"}[set[i].Zone]
		}
		resolved(t, c, set...)
		if got := stay(t, c, "there"); got != 1000 {
			t.Errorf("after the zones swapped, %d of 1000 calls follow", got)
		}
		if n := c.Made(); n != 4 {
			t.Errorf("%d connections were made to 4 instances", n)
		}
	})
}

func TestPolicy_FailsWithTextOfResolver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, zone.Name, here)
		resolved(t, c, in("here", 2)...)
		c.FailsWithTextOfResolver(t)
	})
}

func TestParseConfig_NamesInvalidSettings(t *testing.T) {
	policytest.RefusesConfigs(t, zone.Name, map[string]string{
		`{"zone":7}`:                             `invalid: zone: 7 is not a string`,
		`{"threshold":"0.7"}`:                    `invalid: threshold: "0.7" is not a number above 0 and at most 1`,
		`{"threshold":0}`:                        `invalid: threshold: 0 is not`,
		`{"threshold":1.01}`:                     `invalid: threshold: 1.01 is not`,
		`{"threshold":-0.5,"zone":["a"]}`:        `invalid: zone: ["a"] is not a string; invalid: threshold: -0.5 is not`,
		`{"threshold":null}`:                     `invalid: threshold: null is not`,
		`{"threshold":1e999}`:                    `invalid: threshold: 1e999 is not`,
		`["here"]`:                               `invalid: config: ["here"] is not a JSON object`,
		`{"zone":{"name":"a"},"threshold":0.25}`: `invalid: zone: {"name":"a"} is not a string`,
	})
}

func TestPolicy_PicksWhileZonesChange(t *testing.T) {
	c := policytest.New(t, zone.Name, here)
	if err := c.Resolve(policytest.Endpoints(t, append(in("here", 4), in("there", 4)...)...)...); err != nil {
		t.Fatal(err)
	}
	for c.State().ConnectivityState != connectivity.Ready {
		c.Turn()
	}
	var work sync.WaitGroup
	var stop atomic.Bool
	for range 8 {
		work.Go(func() {
			for !stop.Load() {
				if _, _, err := c.Pick(balancer.PickInfo{}); err != nil {
					t.Errorf("a pick says %v", err)
					return
				}
			}
		})
	}
	for i := range 200 {
		a := fmt.Sprint("here", i%4)
		c.Down(a)
		c.Turn()
		c.Up(a)
		c.Turn()
	}
	stop.Store(true)
	work.Wait()
}

func TestPicker_AllocatesNothing(t *testing.T) {
	c := policytest.New(t, zone.Name, `{"zone":"here","threshold":1}`)
	if err := c.Resolve(policytest.Endpoints(t, append(in("here", 2), in("there", 2)...)...)...); err != nil {
		t.Fatal(err)
	}
	c.Down("here0")
	c.Turn()
	for c.State().ConnectivityState != connectivity.Ready {
		c.Turn()
	}
	picker := c.State().Picker
	if n := testing.AllocsPerRun(1000, func() { picker.Pick(balancer.PickInfo{}) }); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}

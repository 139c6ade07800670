package p2c_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/internal/bubble"
)

func TestPolicy_PicksReadyInstancesOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := of(t, 3)
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			got := c.Counts(t, 200)
			for who := range got {
				if !strings.Contains(strings.Join(want, " "), who) {
					t.Errorf("%s the picks are %v", when, got)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s the picks are %v, want %v", when, got, want)
			}
		}
		check("at first", "a", "b", "c")
		c.Down("c")
		check("with c down", "a", "b")
		c.Healthy("b", false)
		check("with b unhealthy too", "a")
		c.Up("c")
		check("with c back", "a", "c")
		c.Healthy("b", true)
		check("with b back", "a", "b", "c")
	})
}

func TestPolicy_DrainedInstanceIsLastResort(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := policytest.New(t, p2c.Name, `{}`)
		set := instances(3)
		set[0].Weight = 0
		resolved(t, c, set...)
		if got := c.Counts(t, 100); got["a"] != 0 {
			t.Errorf("the picks are %v", got)
		}
		c.Down("b")
		c.Down("c")
		synctest.Wait()
		if got := c.Counts(t, 100); got["a"] != 100 {
			t.Errorf("with the others down the picks are %v", got)
		}
		c.Up("c")
		synctest.Wait()
		if got := c.Counts(t, 100); got["c"] != 100 {
			t.Errorf("with c back the picks are %v", got)
		}
		set[0].Weight = 1
		resolved(t, c, set...)
		if got := c.Counts(t, 100); got["a"] == 0 || c.Made() != 3 {
			t.Errorf("with a back the picks are %v, on %d connections", got, c.Made())
		}
	})
}

func TestPolicy_FailsWithTextOfResolver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := of(t, 2)
		c.FailsWithTextOfResolver(t)
	})
}

func TestParseConfig_NamesInvalidSettings(t *testing.T) {
	policytest.RefusesConfigs(t, p2c.Name, map[string]string{
		`{"decay":10}`:    `invalid: decay: 10 is not a duration above 0, such as "10s"`,
		`{"decay":"0s"}`:  `invalid: decay: "0s" is not`,
		`{"decay":"-1s"}`: `invalid: decay: "-1s" is not`,
		`{"decay":"10"}`:  `invalid: decay: "10" is not`,
		`{"decay":null}`:  `invalid: decay: null is not`,
		`7`:               `invalid: config: 7 is not a JSON object`,
	})
	if _, err := balancer.Get(p2c.Name).(balancer.ConfigParser).ParseConfig([]byte(`{"decay":"1.5s","later":true}`)); err != nil {
		t.Errorf("a good config says %v", err)
	}
}

func TestPolicy_PicksWhileInstancesChange(t *testing.T) {
	c := policytest.New(t, p2c.Name, `{"decay":"1ms"}`)
	if err := c.Resolve(policytest.Endpoints(t, instances(4)...)...); err != nil {
		t.Fatal(err)
	}
	for c.State().ConnectivityState != connectivity.Ready {
		c.Turn()
	}
	var work sync.WaitGroup
	var stop atomic.Bool
	for i := range 8 {
		work.Go(func() {
			for !stop.Load() {
				_, end, err := c.Pick(balancer.PickInfo{FullMethodName: []string{unaryCall, stream}[i%2]})
				if err != nil {
					t.Errorf("a pick says %v", err)
					return
				}
				end([]balancer.DoneInfo{answered, failed, {}}[i%3])
			}
		})
	}
	for i := range 100 {
		if err := c.Resolve(policytest.Endpoints(t, instances(3+i%3)...)...); err != nil {
			t.Error(err)
		}
		c.Down("a")
		c.Turn()
		c.Up("a")
		c.Turn()
	}
	stop.Store(true)
	work.Wait()
}

func TestPolicy_OneInstance(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 1), servers{"a": time.Millisecond}
		if got := s.serve(t, c, time.Second); got["a"] != 1000 {
			t.Errorf("the calls are %v", got)
		}
	})
}

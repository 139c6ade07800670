package grpcx_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestResolver_KeepsLastInstancesForEmptyGrace(t *testing.T) {
	inBubble(t, target, grpcx.ResolverConfig{}, func(t *resolverTrial) {
		t.says(nil, "a:p1", "b:p1")
		t.says(nil)
		t.uses(2, "a b") // a second state, with restrictions
		t.explained(`service "backend" in a script: no instance is registered; the connections to the last 2 are used for up to 30s`)
		time.Sleep(29 * time.Second)
		t.says(errors.New("down")) // does not extend the grace period
		synctest.Wait()
		t.uses(2, "a b")
		time.Sleep(time.Second)
		synctest.Wait()
		t.uses(3, "")
		t.explained("down")
		t.says(nil)
		t.explained("no passing instance is registered")
		t.says(nil, "c:p1")
		t.uses(4, "c")
		t.counted(map[string]int64{"grace_periods": 1, "updates": 4, "endpoints": 1, "errors": 1})
		if n := t.lines.with("keeping last connections"); n != 1 || t.lines.with("closing last connections") != 1 {
			t.Errorf("the log is %q", t.lines.all)
		}
	})
}

func TestResolver_EndsEmptyGraceWithFirstInstance(t *testing.T) {
	inBubble(t, target, grpcx.ResolverConfig{EmptyGrace: time.Minute}, func(t *resolverTrial) {
		t.says(nil, "a:p1", "b:p1")
		t.says(nil)
		t.says(nil, "b:p1", "c:p1")
		t.uses(3, "b c")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		t.uses(3, "b c")
		// The same state is sent again, since the channel was given an error meanwhile.
		t.says(nil)
		t.says(nil, "b:p1", "c:p1")
		t.uses(5, "b c")
		t.says(nil, "b:p1", "c:p1")
		t.uses(5, "b c")
		t.counted(map[string]int64{"grace_periods": 2})
		if n := t.lines.with("ending grace period"); n != 2 {
			t.Errorf("the log is %q", t.lines.all)
		}
	})
}

func TestResolver_EmptyGraceCanBeTurnedOff(t *testing.T) {
	for target, c := range map[string]grpcx.ResolverConfig{target + "?empty-grace=0": {}, target: {EmptyGrace: -1}} {
		inBubble(t, target, c, func(t *resolverTrial) {
			t.says(nil, "a:p1")
			t.says(nil)
			t.uses(2, "")
			t.counted(map[string]int64{"grace_periods": 0})
		})
	}
}

func TestResolver_UsesAllInstancesBelowPanicThreshold(t *testing.T) {
	for i, c := range []struct {
		parameters string
		config     grpcx.ResolverConfig
		set        []string
		want       string
	}{
		{"", grpcx.ResolverConfig{}, []string{"a:p1", "b:c1"}, "a"},
		{"", grpcx.ResolverConfig{}, []string{"a:p1", "b:c1", "c:w1"}, "a b c"},
		{"", grpcx.ResolverConfig{}, []string{"a:c1", "b:c1"}, "a b"},
		{"", grpcx.ResolverConfig{PanicThreshold: 0.3}, []string{"a:p1", "b:c1", "c:w1"}, "a"},
		{"?panic-threshold=0.3", grpcx.ResolverConfig{PanicThreshold: 1}, []string{"a:p1", "b:c1", "c:w1"}, "a"},
		{"?panic-threshold=1", grpcx.ResolverConfig{}, []string{"a:p1", "b:p1", "c:w1"}, "a b c"},
		{"", grpcx.ResolverConfig{}, []string{"a:m1", "b:m1", "c:m1", "d:p1"}, "d"},
		{"", grpcx.ResolverConfig{}, []string{"a:m1", "b:p0", "c:c1", "d:c1", "e:p1"}, "c d e"},
		{"", grpcx.ResolverConfig{}, []string{"a:p0", "b:p0"}, "a b"},
		{"?any-status=1", grpcx.ResolverConfig{}, []string{"a:m1", "b:p0", "c:c1", "d:p1"}, "a b c d"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, target+c.parameters, c.config, func(t *resolverTrial) {
				t.says(nil, c.set...)
				t.uses(1, c.want)
			})
		})
	}
}

func TestResolver_LogsPanicThresholdOnce(t *testing.T) {
	inBubble(t, target, grpcx.ResolverConfig{}, func(t *resolverTrial) {
		t.says(nil, "a:p1", "b:p1", "c:p1")
		t.says(nil, "a:p1", "b:c1", "c:c1")
		t.says(nil, "a:c1", "b:c1", "c:c1")
		t.uses(3, "a b c") // with other statuses
		t.reported(map[string]int64{"panics": 1, "panic_active": 1})
		t.says(nil, "a:p1", "b:p1", "c:c1")
		t.uses(4, "a b")
		t.reported(map[string]int64{"panics": 1, "panic_active": 0})
		if t.lines.with("too few") != 1 || t.lines.with("enough instances pass again") != 1 {
			t.Errorf("the log is %q", t.lines.all)
		}
	})
}

// Maintenance is set on purpose, so it takes effect at once.
func TestResolver_UsesNoInstanceInMaintenance(t *testing.T) {
	inBubble(t, target, grpcx.ResolverConfig{}, func(t *resolverTrial) {
		t.says(nil, "a:p1", "b:p1")
		t.says(nil, "a:m1", "b:m1")
		t.uses(2, "")
		t.explained("all 2 instances are in maintenance, or have weight 0")
		t.counted(map[string]int64{"grace_periods": 0, "panics": 0})
	})
}

func TestResolver_WatchesPassingInstancesIfPanicThresholdIsOff(t *testing.T) {
	for target, want := range map[string]bool{target: true, target + "?panic-threshold=0": false, target + "?panic-threshold=0&any-status=true": true} {
		inBubble(t, target, grpcx.ResolverConfig{}, func(t *resolverTrial) {
			if q := <-t.asked; q.AnyStatus != want {
				t.Errorf("%s watches %+v", target, q)
			}
			t.says(nil, "a:p1")
			t.uses(1, "a")
		})
	}
}

func TestResolver_UsesNamedEndpoint(t *testing.T) {
	inBubble(t, target+"?endpoint=admin", grpcx.ResolverConfig{}, func(t *resolverTrial) {
		t.says(nil, "a:p1", "b:p1")
		t.uses(0, "nothing")
		t.explained(`none of the passing instances has an endpoint "admin"`)
		set := instances("a:p1", "b:p1", "c:p1")
		set[1].Endpoints = map[string]string{"admin": "b:9"}
		set[2].Endpoints = map[string]string{"other": "c:9"}
		t.pairs <- said{set: set}
		synctest.Wait()
		t.uses(1, "b")
		if states, _ := t.channel.told(); states[0].Endpoints[0].Addresses[0].Addr != "b:9" {
			t.Errorf("the channel dials %v", states[0].Endpoints)
		}
	})
}

func TestResolver_UsesSubset(t *testing.T) {
	all := []string{"a:p1", "b:p1", "c:p1", "d:p1", "e:p1", "f:p1"}
	inBubble(t, target+"?subset=2", grpcx.ResolverConfig{ClientID: "me"}, func(t *resolverTrial) {
		t.says(nil, all...)
		states, _ := t.channel.told()
		if len(states) != 1 || len(states[0].Endpoints) != 2 {
			t.Fatalf("the channel was told %v", states)
		}
		one := grpcx.InstanceFromEndpoint(states[0].Endpoints[0]).ID
		rest := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one+":p1" })
		t.says(nil, rest...)
		states, _ = t.channel.told()
		if len(states) != 2 || len(states[1].Endpoints) != 2 {
			t.Fatalf("without %s the channel was told %v", one, states)
		}
		t.counted(map[string]int64{"subset_size": 2})
	})
}

// Many changes reach the channel in a limited number of states. The last one has all changes.
func TestResolver_LimitsStatesOfManyChanges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		c := new(channel)
		res, err := grpcx.NewBuilder(store, grpcx.ResolverConfig{}).Build(resolver.Target{URL: *u}, c, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		const changes = 500
		for i := range changes {
			if _, err := store.Register(t.Context(), registry.Instance{Service: service, Address: fmt.Sprintf("10.0.0.1:%d", 1+i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second / changes)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		states, _ := c.told()
		if n := len(states); n < 2 || n > 100 {
			t.Errorf("%d changes in a second were %d updates", changes, n)
		}
		if n := len(states[len(states)-1].Endpoints); n != changes {
			t.Errorf("the last state has %d of %d instances", n, changes)
		}
	})
}

func TestResolver_RecordsAgeOfSet(t *testing.T) {
	inBubble(t, target, grpcx.ResolverConfig{}, func(t *resolverTrial) {
		age := func(want int64) {
			t.Helper()
			t.reported(map[string]int64{"set_age": want})
		}
		time.Sleep(3 * time.Second)
		age(3)
		t.says(nil, "a:p1")
		time.Sleep(time.Minute)
		age(0)
		t.says(errors.New("down"), "a:p1")
		time.Sleep(time.Minute)
		t.says(errors.New("still down"), "a:p1")
		time.Sleep(time.Second)
		age(61)
		t.says(nil, "a:p1")
		age(0)
		t.counted(map[string]int64{"errors": 2})
		if t.counts.got[target] == 0 {
			t.Errorf("the label of what was counted is not the target: %v", t.counts.got)
		}
		t.res.Close()
		if !t.counts.finished {
			t.Error("the age is still reported after Close")
		}
	})
}

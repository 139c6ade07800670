// Package picks_test measures our balancing policies beside all of gRPC's. It is a module of its own, since one of those needs
// more than importers of Rollcall are to get.
package picks_test

import (
	"flag"
	"strconv"
	"testing"

	v3orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/balancer/randomsubsetting"
	"google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/balancer/weightedroundrobin"
	_ "google.golang.org/grpc/interop/grpc_testing" // describes the method of the calls

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/registry"
)

var turns = flag.Int("turns", 1, "how often BenchmarkPick measures each policy: all of them once, then again")

// BenchmarkPick compares our pickers with gRPC's own. "far apart" and "spills" are the slower paths of ours.
//
// A processor that is shared with others' machines has seconds in which the same picks take half as long again. So with -turns
// the policies take turns, on channels that stay, and a short -benchtime lets each such second fall on all of them.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var names []string
			var runs []func(*testing.B)
			for _, p := range benchmarked() {
				names = append(names, p.label)
				runs = append(runs, p.pick.Settle(b, p.instances(n)))
			}
			for range *turns {
				for i, name := range names {
					b.Run(name, runs[i])
				}
			}
		})
	}
}

// labelled is a policy with its benchmark's name.
type labelled struct {
	label     string
	pick      policytest.Pick
	instances func(n int) []registry.Instance
}

// benchmarked are all policies.
func benchmarked() []labelled {
	var loads []any // of different servers, or all would have one weight
	for i := range 7 {
		loads = append(loads, &v3orcapb.OrcaLoadReport{RpsFractional: 100, ApplicationUtilization: float64(1+i) / 10})
	}
	return []labelled{
		{pickfirst.Name, policytest.Pick{Policy: pickfirst.Name, Connects: 1}, policytest.Addresses},
		{roundrobin.Name, policytest.Pick{Policy: roundrobin.Name}, policytest.Addresses},
		{"rollcall_round_robin", policytest.Pick{Policy: "rollcall_round_robin"}, policytest.Addresses},
		{randomsubsetting.Name, policytest.Pick{Policy: randomsubsetting.Name, Config: `{"subsetSize":20,"childPolicy":[{"round_robin":{}}]}`, Connects: 20}, policytest.Addresses},
		{leastrequest.Name, policytest.Pick{Policy: leastrequest.Name}, policytest.Addresses},
		{ringhash.Name, policytest.Pick{Policy: ringhash.Name, Config: `{"requestHashHeader":"` + policytest.HashHeader + `"}`}, policytest.Addresses},
		{weightedroundrobin.Name, policytest.Pick{Policy: weightedroundrobin.Name, Config: `{"blackoutPeriod":"0s","weightUpdatePeriod":"0.1s"}`, Loads: loads}, policytest.Addresses},
		{weighted.Name, policytest.Pick{Policy: weighted.Name}, weights(10)},
		{weighted.Name + "/far apart", policytest.Pick{Policy: weighted.Name}, weights(65535)},
		{zone.Name, policytest.Pick{Policy: zone.Name, Config: `{"zone":"here"}`}, zones},
		{zone.Name + "/spills", policytest.Pick{Policy: zone.Name, Config: `{"zone":"here","threshold":1}`, Down: []string{policytest.Addresses(1)[0].Address}}, zones},
		{p2c.Name, policytest.Pick{Policy: p2c.Name}, policytest.Addresses},
	}
}

// BenchmarkUpdate compares what one changed instance costs with what it costs round_robin.
func BenchmarkUpdate(b *testing.B) {
	for _, p := range []struct{ name, config string }{
		{roundrobin.Name, `{}`}, {leastrequest.Name, `{}`}, {weighted.Name, `{}`}, {zone.Name, `{"zone":"here"}`}, {p2c.Name, `{}`},
	} {
		for _, n := range []int{100, 1000, 5000} {
			b.Run(p.name+"/"+strconv.Itoa(n), func(b *testing.B) {
				policytest.BenchmarkUpdate(b, p.name, p.config, zones(n))
			})
		}
	}
}

// weights returns instances with weights from 1 to about most, and the first has most.
func weights(most int) func(int) []registry.Instance {
	return func(n int) []registry.Instance {
		set := policytest.Addresses(n)
		for i := range set {
			set[i].Weight = 1 + i*7919%most
		}
		set[0].Weight = most
		return set
	}
}

// zones returns instances of which every other one is in zone here.
func zones(n int) []registry.Instance {
	set := policytest.Addresses(n)
	for i := range set {
		set[i].Zone = []string{"here", "there"}[i%2]
	}
	return set
}

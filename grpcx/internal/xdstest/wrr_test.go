package xdstest

import (
	"strconv"
	"testing"

	"google.golang.org/grpc/balancer/weightedroundrobin"

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
)

// BenchmarkPick adds weighted_round_robin, which needs packages of xds too, to the comparison of package policytest. Its
// calls report no load, so that it takes all weights for equal; rollcall_weighted stands beside it for the machine's speed.
func BenchmarkPick(b *testing.B) {
	for _, p := range []struct{ name, config string }{
		{weightedroundrobin.Name, `{}`}, {weighted.Name, `{}`},
	} {
		for _, n := range []int{3, 100, 1000} {
			b.Run(p.name+"/"+strconv.Itoa(n), func(b *testing.B) {
				policytest.BenchmarkPick(b, p.name, p.config, policytest.Addresses(n))
			})
		}
	}
}

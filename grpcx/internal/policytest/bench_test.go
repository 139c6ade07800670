package policytest_test

import (
	"strconv"
	"testing"

	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/balancer/roundrobin"
	_ "google.golang.org/grpc/interop/grpc_testing" // describes the method of the calls

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkPick compares our pickers with gRPC's own. "far apart" and "spills" are the slower paths of ours.
func BenchmarkPick(b *testing.B) {
	for _, p := range []struct {
		label, name, config string
		instances           func(n int) []registry.Instance
		down                []string
	}{
		{pickfirst.Name, pickfirst.Name, `{}`, policytest.Addresses, nil},
		{roundrobin.Name, roundrobin.Name, `{}`, policytest.Addresses, nil},
		{leastrequest.Name, leastrequest.Name, `{}`, policytest.Addresses, nil},
		{ringhash.Name, ringhash.Name, `{"requestHashHeader":"` + policytest.HashHeader + `"}`, policytest.Addresses, nil},
		{weighted.Name, weighted.Name, `{}`, weights(10), nil},
		{weighted.Name + "/far apart", weighted.Name, `{}`, weights(65535), nil},
		{zone.Name, zone.Name, `{"zone":"here"}`, zones, nil},
		{zone.Name + "/spills", zone.Name, `{"zone":"here","threshold":1}`, zones, []string{policytest.Addresses(1)[0].Address}},
		{p2c.Name, p2c.Name, `{}`, policytest.Addresses, nil},
	} {
		for _, n := range []int{3, 100, 1000} {
			b.Run(p.label+"/"+strconv.Itoa(n), func(b *testing.B) {
				policytest.BenchmarkPick(b, p.name, p.config, p.instances(n), p.down...)
			})
		}
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

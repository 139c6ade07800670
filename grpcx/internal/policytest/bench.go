package policytest

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// HashHeader is the metadata that the benchmarked calls carry, for a policy that hashes it.
const HashHeader = "k"

// BenchmarkPick measures a pick and the end of its call, of the policy that is registered under name, with instances of
// which all are ready but those at the addresses down. The calls are unary, and succeed.
func BenchmarkPick(b *testing.B, name, config string, instances []registry.Instance, down ...string) {
	c := settled(b, name, config, instances, down...)
	picker, info, done := c.State().Picker, call("value"), balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	one := func() error {
		r, err := picker.Pick(info)
		if err == nil && r.Done != nil {
			r.Done(done)
		}
		return err
	}
	for range 10_000 { // for what a policy learns from the first calls
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdate measures what it costs the policy that one of the instances changes its weight.
func BenchmarkUpdate(b *testing.B, name, config string, instances []registry.Instance) {
	c := settled(b, name, config, instances)
	changed := slices.Clone(instances)
	changed[0].Weight++
	sets := [][]resolver.Endpoint{Endpoints(b, changed...), Endpoints(b, instances...)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := c.Resolve(sets[i%2]...); err != nil {
			b.Fatal(err)
		}
	}
}

// settled returns a channel that is connected to all of the instances that are not down.
func settled(b *testing.B, name, config string, instances []registry.Instance, down ...string) *Channel {
	c := New(b, name, config)
	for _, a := range down {
		c.Down(a)
	}
	if err := c.Resolve(Endpoints(b, instances...)...); err != nil {
		b.Fatal(err)
	}
	want := len(instances) - len(down)
	if name == "pick_first" {
		want = 1
	}
	for i := 0; len(c.Ready()) < want; i++ { // ring_hash connects to whom it picks
		c.Turn()
		if s := c.State(); s.Picker != nil {
			s.Picker.Pick(call(strconv.Itoa(i)))
		}
	}
	c.Turn()
	return c
}

func call(hashed string) balancer.PickInfo {
	return balancer.PickInfo{
		FullMethodName: "/grpc.testing.TestService/UnaryCall",
		Ctx:            metadata.AppendToOutgoingContext(context.Background(), HashHeader, hashed),
	}
}

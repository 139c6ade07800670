package policytest

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// HashHeader is the metadata that the benchmarked calls carry, for a policy that hashes it.
const HashHeader = "k"

// Pick is a benchmark of picks by a policy that is registered, and of the ends of their calls, which are unary and succeed.
type Pick struct {
	Policy, Config string   // Config is JSON; "" is {}
	Down           []string // the addresses that are not ready
	Loads          []any    // the loads that servers report with their calls, in turn; empty if they report none
	Connects       int      // the number of instances that it connects to; 0 means all that are not down
}

// learning is how long a policy that uses reported loads gets to use the first reports.
const learning = 300 * time.Millisecond

// Settle connects a channel to the instances until b ends, and returns a benchmark of picks on it.
func (p Pick) Settle(b *testing.B, instances []registry.Instance) func(*testing.B) {
	c := settled(b, p.Policy, cmp.Or(p.Config, "{}"), instances, p.Connects, p.Down...)
	picker, info, done := c.State().Picker, call("value"), balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	calls := 0
	one := func() error {
		r, err := picker.Pick(info)
		if len(p.Loads) > 0 {
			done.ServerLoad = p.Loads[calls%len(p.Loads)]
			calls++
		}
		if err == nil && r.Done != nil {
			r.Done(done)
		}
		return err
	}
	began := time.Now()
	for i := 0; i < 10_000 || len(p.Loads) > 0 && time.Since(began) < learning; i++ { // for what a policy learns from the first calls
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
	return func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := one(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkUpdate measures what it costs the policy that one of the instances changes its weight.
func BenchmarkUpdate(b *testing.B, name, config string, instances []registry.Instance) {
	c := settled(b, name, config, instances, 0)
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

// settled returns a channel that is connected to all instances that are not down, or to the given number of them if most is above 0.
func settled(b *testing.B, name, config string, instances []registry.Instance, most int, down ...string) *Channel {
	c := New(b, name, config)
	for _, a := range down {
		c.Down(a)
	}
	if err := c.Resolve(Endpoints(b, instances...)...); err != nil {
		b.Fatal(err)
	}
	want := len(instances) - len(down)
	if most > 0 {
		want = min(want, most)
	}
	for i := 0; len(c.Ready()) < want; i++ {
		c.Turn()
		if s := c.State(); s.Picker != nil { // ring_hash connects to the instances that it picks
			for j := range want {
				s.Picker.Pick(call(strconv.Itoa(i*want + j)))
			}
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

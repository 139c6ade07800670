package contender

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// Probe is the name of a balancing policy that makes no connection. It reports the set of gRPC's picker as soon as gRPC uses that picker.
const Probe = "bench_probe"

// Probed registers the policy, and has got called with each set that reaches its picker.
func Probed(got func(Set)) { probe.once.Do(func() { balancer.Register(&probe) }); probe.got = got }

var probe probeBuilder

type probeBuilder struct {
	once sync.Once
	got  func(Set)
}

func (*probeBuilder) Name() string { return Probe }

func (b *probeBuilder) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &probeBalancer{cc, b.got}
}

type probeBalancer struct {
	cc  balancer.ClientConn
	got func(Set)
}

func (b *probeBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	b.cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: noPick{}})
	b.got(setOf(s.ResolverState))
	return nil
}

func (b *probeBalancer) ResolverError(error)                                        {}
func (b *probeBalancer) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}
func (b *probeBalancer) Close()                                                     {}
func (b *probeBalancer) ExitIdle()                                                  {}

// noPick is a picker for calls that are never made.
type noPick struct{}

func (noPick) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// Package p2c registers the balancing policy rollcall_p2c, which compares two instances for each call, taken at random, and
// takes the one that is likely to answer sooner:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/p2c"
//
//	{"loadBalancingConfig":[{"rollcall_p2c":{}}]}
//
// One setting:
//
//	decay  how long it takes for a latency to count for 1/e (37%) of what it did; a string such as "10s", more than 0;
//	       default "10s"
//
// A setting that cannot be used is an error that names it, with the service config; one that is unknown is ignored.
//
// # What is compared
//
// Each instance has a latency: a moving average over its answers, in which an answer weighs by the time since the one before
// it (1 - exp(-time/decay)), and one that is slower than the average replaces it at once. So an instance that gets slow is
// known for it after one call, and one that gets fast again earns it by and by. Of two instances the call goes to the one
// where latency × (outstanding calls + 1) is less. While one of them has no latency yet, outstanding calls alone decide. The
// method is that of Finagle's "peak EWMA" balancer, over the power of two choices (Mitzenmacher, 2001).
//
// An instance that keeps losing answers nothing from which its latency could be seen to fall. Its latency therefore falls
// towards half of that of the instance it loses to, by the same decay, until it gets a call again: with the default and
// instances that take 1 ms, one that once took 100 ms does so within a minute.
//
// Streams count as outstanding calls, and are left out of latency: how long one stays open says nothing of its server. gRPC
// does not tell a policy what is a stream; the descriptors that generated protobuf code registers do. A method without one,
// as a proxy may have it, is left out of latency too.
//
// A call that fails counts for latency only where it took longer than the average, so that an instance which fails at once
// does not look fast. An instance that fails is never in more than 2/n of the comparisons of n instances; gRPC's outlier
// detection can take it out.
//
// Calls are all counted. Their time is taken for each of an instance's calls while these start at least 1 ms apart, and for
// fewer as they come faster, down to one in eight: reading the clock costs more than all the rest.
//
// Weights in the registry do not count, but an instance of weight 0, which drains, gets no call while another is ready.
//
// Client-side health checks and outlier detection of gRPC count, as they do with round_robin; while no instance is ready,
// calls wait or fail as they do there. Once the service has no instances, the error is what the resolver says of that.
package p2c

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/grpcx/internal/settings"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

// Name is that of the policy in a service config.
const Name = "rollcall_p2c"

const defaultDecay = 10 * time.Second

func init() { balancer.Register(builder{}) }

type config struct {
	serviceconfig.LoadBalancingConfig

	decay time.Duration
}

type builder struct{}

// Name implements [balancer.Builder].
func (builder) Name() string { return Name }

// ParseConfig implements [balancer.ConfigParser].
func (builder) ParseConfig(js json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c := &config{decay: defaultDecay}
	o := settings.Parse(Name, js)
	o.Duration("decay", &c.decay)
	if err := o.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Build implements [balancer.Builder].
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	pickFirst := sharded.PickFirst(o)
	child := func(cc balancer.ClientConn) balancer.Balancer {
		return pickFirst(&endpoint{ClientConn: cc, node: newNode()})
	}
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		p := new(policy)
		p.Balancer = sharded.New(cc, o, child, p.picker)
		return p
	})
}

type policy struct {
	balancer.Balancer
	config atomic.Pointer[config] // connections change their state, and with it the picker, at any time
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, ok := s.BalancerConfig.(*config)
	if !ok { // a policy above this one has none for it
		c = &config{decay: defaultDecay}
	}
	p.config.Store(c)
	return p.Balancer.UpdateClientConnState(s)
}

func (p *policy) picker(children []sharded.Child) balancer.Picker {
	ready := make([]choice, 0, len(children))
	for _, c := range children {
		if c, ok := c.Picker.(choice); ok {
			ready = append(ready, c)
		}
	}
	return &picker{ready: ready, decay: p.config.Load().decay}
}

// endpoint joins the picker of an endpoint and its node, which outlives connections.
type endpoint struct {
	balancer.ClientConn
	node *node
}

// UpdateState implements [balancer.ClientConn].
func (e *endpoint) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		s.Picker = choice{Picker: s.Picker, node: e.node}
	}
	e.ClientConn.UpdateState(s)
}

type choice struct {
	balancer.Picker
	node *node
}

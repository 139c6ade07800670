// Package p2c registers the balancing policy rollcall_p2c, which picks two instances at random for each call, and calls the faster one
// ("power of two choices", Mitzenmacher 2001). Import it for that effect:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/p2c"
//
// and select it with policy=rollcall_p2c in the target of grpcx.NewClient, or in the service config:
//
//	{"loadBalancingConfig":[{"rollcall_p2c":{}}]}
//
// It has one setting:
//
//	decay  the time after which a latency counts for 1/e (37%) of what it counted before; a string such as "10s", more
//	       than 0; default "10s"
//
// A setting that cannot be used is an error that names it. Unknown settings are ignored.
//
// # How instances are compared
//
// The call goes to the instance with the lower latency × (outstanding calls + 1). While one of the two has no latency yet, outstanding
// calls alone decide. The latency is measured as in Finagle's "peak EWMA" balancer: a moving average in which an answer has the weight
// 1 - exp(-t/decay), with t as the time since the previous answer. An answer that is slower than the average replaces it at once. So an
// instance that becomes slow is avoided after one call, and an instance that becomes fast again gets more calls gradually.
//
// An instance that always loses the comparison gets no calls, and so no new latency. Therefore its latency falls, with the same decay,
// towards half the latency of the instances that it loses to, until it gets a call again. With the default, and other instances that
// take 1 ms, an instance that once took 100 ms gets a call again within a minute.
//
// Weights do not count, except that a drained instance, with weight 0 or less, gets calls only if no instance with a weight can serve.
//
// # Calls that fail
//
// Failures that are the server's fault count as slow answers, however fast they come: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS,
// UNIMPLEMENTED and RESOURCE_EXHAUSTED. They have two effects:
//
//   - The latency is multiplied by 1 + 1000·share². share is the share of such failures in about the last 8 calls.
//   - The latency is at least as high as the latency of the instance that lost the comparison.
//
// The share falls with each call that ends otherwise, and by the decay while the instance gets no calls. So with the default the instance
// is tried again every 10 to 40 s. A new connection sets the share to 0.
//
// CANCELLED and DEADLINE_EXCEEDED say nothing about the server. All other codes are the caller's fault, and count as answers. A call that
// fails changes the latency only if it took longer than the average.
//
// # Which calls are measured
//
// All calls count as outstanding calls. The time of each call of an instance is measured if they start at least 1 ms apart. If they come
// faster, fewer are measured, down to one in eight, since reading the clock costs more than the rest of a pick.
//
// Streams are not measured, since how long a stream stays open says nothing about its server. gRPC does not tell a policy which methods have
// streams, so the policy looks at the descriptors that generated protobuf code registers. A method without a descriptor, as in a proxy, is
// not measured either.
//
// # Health
//
// Client-side health checks and outlier detection of gRPC work as with round_robin. While no instance is ready, calls wait or fail as with
// round_robin. If the service has no instances, calls fail with the text of the resolver.
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

// Name is the name of the policy in a target or a service config.
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

// Guarded implements guard.Guarded: the policy heeds the restrictions of a resolver of package grpcx.
func (builder) Guarded() {}

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
	config atomic.Pointer[config] // read when a connection changes its state, which may be at any time
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, ok := s.BalancerConfig.(*config)
	if !ok { // the parent policy gives no config
		c = &config{decay: defaultDecay}
	}
	p.config.Store(c)
	return p.Balancer.UpdateClientConnState(s)
}

func (p *policy) picker(children []sharded.Child) balancer.Picker {
	ready, decay := make([]readyNode, 0, len(children)), p.config.Load().decay
	for _, c := range children {
		if c, ok := c.Picker.(readyNode); ok {
			c.node.decay.Store(int64(decay))
			ready = append(ready, c)
		}
	}
	return &picker{ready: ready, decay: decay}
}

// endpoint adds the node of an endpoint to its pickers. The node outlives connections.
type endpoint struct {
	balancer.ClientConn
	node *node
}

// UpdateState implements [balancer.ClientConn].
func (e *endpoint) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		e.node.ResetFaults()
		s.Picker = readyNode{Picker: s.Picker, node: e.node}
	}
	e.ClientConn.UpdateState(s)
}

type readyNode struct {
	balancer.Picker
	node *node
}

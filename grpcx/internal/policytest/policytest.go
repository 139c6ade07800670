// Package policytest runs balancing policies without a network, over a fake channel and fake connections whose states the test sets. The
// module picks runs its benchmarks for all policies at once.
package policytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// ErrDown is the error of connections to a server that is down.
var ErrDown = errors.New("connection refused")

// Channel is the fake channel of a policy. Its servers have addresses, and are up unless the test sets them down.
//
// As in a real channel, methods of the policy and listeners of its connections are called one at a time.
type Channel struct {
	balancer.ClientConn // nil: no policy uses other methods

	policy balancer.Balancer
	config serviceconfig.LoadBalancingConfig

	mu    sync.Mutex
	wake  chan struct{}
	queue []func()
	state balancer.State
	conns []*SubConn // all that were made
	down  map[string]bool
	hang  map[string]bool
	sick  map[string]bool
}

// New returns a channel with the policy that is registered under name, and its config in JSON. It is closed when t ends.
func New(t testing.TB, name, config string) *Channel {
	t.Helper()
	b := balancer.Get(name)
	if b == nil {
		t.Fatalf("no policy %q is registered", name)
	}
	c := &Channel{wake: make(chan struct{}, 1), down: map[string]bool{}, hang: map[string]bool{}, sick: map[string]bool{}}
	if p, ok := b.(balancer.ConfigParser); ok {
		var err error
		if c.config, err = p.ParseConfig(json.RawMessage(config)); err != nil {
			t.Fatal(err)
		}
	}
	c.policy = b.Build(c, balancer.BuildOptions{})
	stop := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() { c.run(stop) })
	t.Cleanup(func() {
		c.do(c.policy.Close)
		close(stop)
		loop.Wait()
	})
	return c
}

func (c *Channel) run(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-c.wake:
		}
		for {
			c.mu.Lock()
			if len(c.queue) == 0 {
				c.mu.Unlock()
				break
			}
			f := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			f()
		}
	}
}

func (c *Channel) enqueue(f func()) {
	c.mu.Lock()
	c.queue = append(c.queue, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// do calls f in its turn, and waits for it.
func (c *Channel) do(f func()) {
	done := make(chan struct{})
	c.enqueue(func() { defer close(done); f() })
	<-done
}

// Turn returns when all calls that are queued so far have been made. These may have queued more.
func (c *Channel) Turn() { c.do(func() {}) }

// Resolve hands a set to the policy. It returns what the policy returns.
func (c *Channel) Resolve(endpoints ...resolver.Endpoint) (err error) {
	s := balancer.ClientConnState{ResolverState: resolver.State{Endpoints: endpoints}, BalancerConfig: c.config}
	c.do(func() { err = c.policy.UpdateClientConnState(s) })
	return err
}

// Report hands an error of the resolver to the policy.
func (c *Channel) Report(err error) { c.do(func() { c.policy.ResolverError(err) }) }

// State returns the newest state of the policy.
func (c *Channel) State() balancer.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Pick picks with the newest picker, and returns the address of the server.
func (c *Channel) Pick(info balancer.PickInfo) (string, func(balancer.DoneInfo), error) {
	r, err := c.State().Picker.Pick(info)
	if err != nil {
		return "", nil, err
	}
	return r.SubConn.(*SubConn).address, r.Done, nil
}

// Picks makes n picks of calls that end at once, and returns the addresses of the servers in order.
func (c *Channel) Picks(t testing.TB, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range out {
		who, done, err := c.Pick(balancer.PickInfo{})
		if err != nil {
			t.Fatal(err)
		}
		if done != nil {
			done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
		}
		out[i] = who
	}
	return out
}

// Counts makes n picks as Picks does, and returns how many each address got.
func (c *Channel) Counts(t testing.TB, n int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, who := range c.Picks(t, n) {
		counts[who]++
	}
	return counts
}

// Ready returns the addresses of the servers that are connected and healthy.
func (c *Channel) Ready() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := map[string]bool{}
	for _, sc := range c.conns {
		if sc.up && !c.sick[sc.address] {
			ready[sc.address] = true
		}
	}
	return ready
}

// Made returns how many connections the policy has asked for so far.
func (c *Channel) Made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// Hang makes new connections to servers neither succeed nor fail, until Down or Up.
func (c *Channel) Hang(addresses ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addresses {
		c.hang[a] = true
	}
}

// Down breaks the connections to a server, and refuses new ones until Up.
func (c *Channel) Down(address string) {
	c.mu.Lock()
	c.down[address] = true
	delete(c.hang, address)
	conns := c.conns
	c.mu.Unlock()
	for _, sc := range conns {
		if sc.address == address {
			c.enqueue(sc.lose)
		}
	}
}

// Up accepts connections to the server again. Failed connections are tried at once.
func (c *Channel) Up(address string) {
	c.mu.Lock()
	delete(c.down, address)
	delete(c.hang, address)
	conns := c.conns
	c.mu.Unlock()
	for _, sc := range conns {
		if sc.address == address {
			c.enqueue(sc.retry)
		}
	}
}

// Healthy sets the result of client-side health checks of the server.
func (c *Channel) Healthy(address string, healthy bool) {
	c.mu.Lock()
	if healthy {
		delete(c.sick, address)
	} else {
		c.sick[address] = true
	}
	conns := c.conns
	c.mu.Unlock()
	for _, sc := range conns {
		if sc.address == address {
			c.enqueue(sc.tellHealth)
		}
	}
}

// NewSubConn implements [balancer.ClientConn].
func (c *Channel) NewSubConn(addresses []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	if len(addresses) != 1 {
		return nil, fmt.Errorf("%d addresses for one connection", len(addresses))
	}
	sc := &SubConn{channel: c, address: addresses[0].Addr, listener: o.StateListener}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, sc)
	return sc, nil
}

// UpdateState implements [balancer.ClientConn].
func (c *Channel) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// ResolveNow implements [balancer.ClientConn].
func (c *Channel) ResolveNow(resolver.ResolveNowOptions) {}

// Target implements [balancer.ClientConn].
func (c *Channel) Target() string { return "policytest:///service" }

// MetricsRecorder implements [balancer.ClientConn].
func (c *Channel) MetricsRecorder() stats.MetricsRecorder {
	return stats.UnimplementedMetricsRecorder{}
}

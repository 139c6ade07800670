package grpcx_test

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkResolver_OneOf5000 measures what it costs to bring one changed instance of 5,000 to the round_robin of a channel: that
// policy alone, and with the resolver in front of it. Run
//
//	go test -run '^$' -bench OneOf5000 -benchtime 50x ./grpcx
func BenchmarkResolver_OneOf5000(b *testing.B) {
	const (
		many  = 5000
		pause = many*20*time.Microsecond + 50*time.Millisecond // after which the next state goes out at once
	)
	set := make([]*registry.Instance, many)
	for i := range set {
		set[i] = &registry.Instance{ID: fmt.Sprintf("i%04d", i), Service: service, Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), Weight: 1}
	}
	// change returns the next set, in which another instance has a new address.
	n := 0
	change := func() []*registry.Instance {
		n++
		next := append([]*registry.Instance(nil), set...)
		in := *set[n%many]
		in.Address = fmt.Sprintf("10.%d.%d.%d:81", 1+n/62500%250, n/250%250, n%250)
		next[n%many] = &in
		set = next
		return set
	}
	alone, behind := newPolicy(), newPolicy()
	defer alone.Close()
	defer behind.Close()
	endpoints := make([]resolver.Endpoint, many)
	onlyPolicy := func(set []*registry.Instance) {
		// As cheaply as could be: what did not change is as it was.
		for i, in := range set {
			if len(endpoints[i].Addresses) == 0 || endpoints[i].Addresses[0].Addr != in.Address {
				endpoints[i] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: in.Address}}, Attributes: attributes.New(n, n)}
			}
		}
		if err := alone.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Endpoints: endpoints}}); err != nil {
			b.Fatal(err)
		}
	}

	sets := make(chan []*registry.Instance)
	c := &policyChannel{policy: behind, done: make(chan struct{})}
	u, err := url.Parse(target)
	if err != nil {
		b.Fatal(err)
	}
	res, err := grpcx.NewBuilder(feeder{sets: sets}, grpcx.ResolverConfig{}).Build(resolver.Target{URL: *u}, c, resolver.BuildOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer res.Close()
	withResolver := func(set []*registry.Instance) {
		sets <- set
		<-c.done
	}

	onlyPolicy(set)
	withResolver(set)
	var took [2]time.Duration
	for b.Loop() {
		time.Sleep(pause)
		next := change()
		for i, f := range []func([]*registry.Instance){onlyPolicy, withResolver} {
			began := time.Now()
			f(next)
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[0])/float64(b.N)/1e6, "ms/policy")
	b.ReportMetric(float64(took[1])/float64(b.N)/1e6, "ms/resolver+policy")
	b.ReportMetric(float64(took[1])/float64(took[0]), "ratio")
}

// feeder is a Discovery that yields what a benchmark gives it.
type feeder struct {
	registry.Discovery
	sets chan []*registry.Instance
}

func (f feeder) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		for {
			select {
			case set := <-f.sets:
				if !yield(set, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// policyChannel hands each state to a policy, as a channel does.
type policyChannel struct {
	policy balancer.Balancer
	done   chan struct{}
}

func (c *policyChannel) UpdateState(s resolver.State) error {
	err := c.policy.UpdateClientConnState(balancer.ClientConnState{ResolverState: s})
	c.done <- struct{}{}
	return err
}

func (c *policyChannel) ReportError(error)                                    {}
func (c *policyChannel) NewAddress([]resolver.Address)                        {}
func (c *policyChannel) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

// newPolicy returns a round_robin whose connections are ready as soon as they are wanted, and lead nowhere.
func newPolicy() balancer.Balancer {
	return balancer.Get(roundrobin.Name).Build(&nowhere{}, balancer.BuildOptions{})
}

type nowhere struct{ balancer.ClientConn }

func (n *nowhere) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &nothing{listener: o.StateListener}, nil
}
func (n *nowhere) UpdateState(balancer.State)            {}
func (n *nowhere) ResolveNow(resolver.ResolveNowOptions) {}
func (n *nowhere) MetricsRecorder() stats.MetricsRecorder {
	return stats.UnimplementedMetricsRecorder{}
}
func (n *nowhere) Target() string { return target }

type nothing struct {
	balancer.SubConn
	listener func(balancer.SubConnState)
	once     sync.Once
}

func (c *nothing) Connect() {
	// Not from within Connect, as with gRPC's own.
	c.once.Do(func() {
		go func() {
			c.listener(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
			c.listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}()
	})
}
func (c *nothing) Shutdown()                                          {}
func (c *nothing) RegisterHealthListener(func(balancer.SubConnState)) {}

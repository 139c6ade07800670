// Package zone registers the balancing policy rollcall_zone, which keeps calls within the client's own zone for as long as
// enough of the instances there can take them:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/zone"
//
//	{"loadBalancingConfig":[{"rollcall_zone":{"zone":"eu-1","threshold":0.7}}]}
//
// Settings:
//
//	zone       the client's own zone, as the instances there announce it in [registry.Instance.Zone]; default: the
//	           environment variable ROLLCALL_ZONE. Without either all instances are alike.
//	threshold  the share of the own zone's instances that must be ready for the zone to take all calls; above 0 and at
//	           most 1, default 0.7
//
// A setting that cannot be used is an error that names it, with the service config; one that is unknown is ignored.
//
// # How calls spill over
//
// Below the threshold, calls spill over to the other zones by as much as the own one lacks. With own = ready / all of the
// instances in the own zone, and other = ready / all of those elsewhere, the own zone takes the share
//
//	a = min(1, own / threshold)
//	b = min(1, other / threshold)
//	share = a / min(1, a + b)
//
// of the calls. With 10 instances in each zone and the threshold at 0.7:
//
//	ready in the own zone     10    7    6    5    4    3    2    1    0
//	calls that stay there   100% 100%  86%  71%  57%  43%  29%  14%   0%
//
// So an instance that is lost beyond the threshold does not add to what its neighbours have to carry. Where the other zones
// are in no better state (a + b < 1), the calls are shared in proportion to what is left, and where nobody is ready there, all
// of them stay. When instances come back, so do the calls, along the same curve. The formula is that of Envoy's priority
// levels, for two of them, with 1/threshold for its overprovisioning factor, whose default 1.4 makes 0.71
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority).
//
// Ready means connected, and healthy where client-side health checks are on. All means what the registry has but for those
// that drain: an instance that does not pass there is not ready. (Without PanicThreshold, see package grpcx, the resolver
// does not know of these.) One that has left the registry is missed by nobody. An instance that was just added counts once
// its first connection has come about or failed, so that a zone that grows does not shed calls meanwhile. Weights do not
// count here, as in Envoy's default.
//
// Within the own zone, and among all the others together, instances get calls by their weights as with package weighted, and
// one of weight 0, which drains, gets none while another is ready. The policy keeps connections to the instances of all
// zones, so that a spill waits for none.
//
// Picks are counted as the metric rollcall.zone.picks, with the label zone "local" or "other". Where nobody knows the own
// zone, all are "other". As those of gRPC's own policies it is off unless it is asked for, such as with
// stats.NewMetricSet("rollcall.zone.picks") in the options of gRPC's OpenTelemetry plugin.
//
// Client-side health checks and outlier detection of gRPC count, as they do with round_robin; while no instance is ready,
// calls wait or fail as they do there. Once the service has no instances, the error is what the resolver says of that.
package zone

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/grpcx/internal/passing"
	"github.com/rollcall-go/rollcall/grpcx/internal/settings"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

// Name is that of the policy in a service config.
const Name = "rollcall_zone"

// Variable is the environment variable that holds the client's own zone where the service config does not.
const Variable = "ROLLCALL_ZONE"

const defaultThreshold = 0.7

func init() { balancer.Register(builder{}) }

type config struct {
	serviceconfig.LoadBalancingConfig

	zone      string
	threshold float64
}

// owns reports whether zone is the client's own.
func (c *config) owns(zone string) bool { return c.zone != "" && zone == c.zone }

type builder struct{}

// Name implements [balancer.Builder].
func (builder) Name() string { return Name }

// ParseConfig implements [balancer.ConfigParser].
func (builder) ParseConfig(js json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c := &config{threshold: defaultThreshold}
	o := settings.Parse(Name, js)
	o.String("zone", &c.zone)
	o.Share("threshold", &c.threshold)
	if err := o.Err(); err != nil {
		return nil, err
	}
	if c.zone == "" {
		c.zone = os.Getenv(Variable)
	}
	return c, nil
}

// Build implements [balancer.Builder].
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		p := &policy{recorder: cc.MetricsRecorder()}
		p.turn.Store(rand.Uint32()) // clients that start together do not call the instances in step
		p.Balancer = sharded.New(cc, o, sharded.PickFirst(o), p.picker)
		return p
	})
}

type policy struct {
	balancer.Balancer
	known    atomic.Pointer[known] // connections change their state, and with it the picker, at any time
	turn     atomic.Uint32
	recorder stats.MetricsRecorder
}

// known is what the channel said last, but for the endpoints.
type known struct {
	config *config
	zones  passing.Zones
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, ok := s.BalancerConfig.(*config)
	if !ok { // a policy above this one has none for it
		c = &config{zone: os.Getenv(Variable), threshold: defaultThreshold}
	}
	p.known.Store(&known{config: c, zones: passing.From(s.ResolverState)})
	return p.Balancer.UpdateClientConnState(s)
}

func (p *policy) picker(children []sharded.Child) balancer.Picker {
	k := p.known.Load()
	n := 0
	for i, child := range children {
		if k.config.owns(child.Zone) {
			children[i], children[n] = children[n], child
			n++
		}
	}
	own, rest := children[:n], children[n:]
	ours, theirs := sharded.NewGroup(own), sharded.NewGroup(rest)
	share := ownShare(
		readiness(own, ours)*k.zones.Share(k.config.owns),
		readiness(rest, theirs)*k.zones.Share(func(zone string) bool { return !k.config.owns(zone) }),
		k.config.threshold,
	)
	if math.IsNaN(share) { // whom the resolver has left out is known a moment before the endpoints are told who is left
		share = float64(ours.Len()) / float64(ours.Len()+theirs.Len())
	}
	switch share {
	case 1:
		return &single{group: ours, where: local, turn: &p.turn, recorder: p.recorder}
	case 0:
		return &single{group: theirs, where: other, turn: &p.turn, recorder: p.recorder}
	}
	return &split{own: ours, other: theirs, share: uint64(math.Round(share * (1 << 32))), turn: &p.turn, recorder: p.recorder}
}

// readiness returns the share of children that are ready, which are those of g.
func readiness(children []sharded.Child, g *sharded.Group) float64 {
	known := 0
	for _, c := range children {
		if !c.New {
			known++
		}
	}
	if known == 0 {
		return 0
	}
	return float64(g.Len()) / float64(known)
}

// ownShare is the formula of the package's documentation. It is no number where both own and rest are 0.
func ownShare(own, rest, threshold float64) float64 {
	a, b := min(1, own/threshold), min(1, rest/threshold)
	return a / min(1, a+b)
}

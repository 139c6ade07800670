// Package zone registers the balancing policy rollcall_zone, which keeps calls in the client's own zone as long as enough instances there
// can serve them. Import it for that effect:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/zone"
//
// and select it with policy=rollcall_zone in the target of grpcx.NewClient, or in the service config:
//
//	{"loadBalancingConfig":[{"rollcall_zone":{"zone":"eu-1","threshold":0.7}}]}
//
// Settings:
//
//	zone       the client's own zone, as in [registry.Instance.Zone] of the instances there; default: the environment
//	           variable ROLLCALL_ZONE. Without either, all instances are treated the same.
//	threshold  the share of instances in the own zone that must be ready for the zone to take all calls; above 0 and at
//	           most 1; default: 0.7
//
// A setting that cannot be used is an error that names it. Unknown settings are ignored.
//
// # How calls spill over
//
// If fewer instances than the threshold are ready, some calls go to the other zones. With own as the ready share of the instances in
// the own zone, and other as the ready share of the instances in all other zones, the own zone gets this share of the calls:
//
//	a = min(1, own / threshold)
//	b = min(1, other / threshold)
//	share = a / min(1, a + b)
//
// With 10 instances in each zone and the threshold 0.7:
//
//	ready in the own zone     10    7    6    5    4    3    2    1    0
//	calls that stay there   100% 100%  86%  71%  57%  43%  29%  14%   0%
//
// So below the threshold, the remaining instances of the own zone do not get more calls when another one is lost. If the other zones are no
// better (a + b < 1), the calls are divided in proportion to a and b. If no instance there is ready, all calls stay. When instances come
// back, their calls come back along the same curve. Envoy's priority levels use the same formula, here for two levels, with 1/threshold as
// the overprovisioning factor, whose default 1.4 corresponds to the threshold 0.71
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority).
//
// # Which instances count
//
//   - An instance is ready if it is connected, and healthy if there are client-side health checks.
//   - All registered instances count, except drained ones. An instance that does not pass counts as not ready. (With
//     PanicThreshold turned off, the resolver of package grpcx does not know such instances, so they do not count.)
//   - An instance that was added counts when its first connection has succeeded or failed. So a zone that grows loses no calls meanwhile.
//   - Weights do not count, as by default in Envoy.
//
// Within the own zone, and among all other zones together, instances get calls by their weights as in package weighted. A drained instance,
// with weight 0 or less, gets calls only if no instance with a weight can serve. The policy stays connected to the instances of all zones,
// so calls that spill over do not wait.
//
// # Metrics and health
//
// The metric rollcall.zone.picks counts picks, with the label zone "local" or "other". If the own zone is unknown, all are "other". Like
// the metrics of gRPC's own policies it is off by default; stats.NewMetricSet("rollcall.zone.picks") in the options of gRPC's OpenTelemetry
// plugin turns it on.
//
// Client-side health checks and outlier detection of gRPC work as with round_robin. While no instance is ready, calls wait or fail as with
// round_robin. If the service has no instances, calls fail with the text of the resolver.
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
	"github.com/rollcall-go/rollcall/grpcx/internal/settings"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
	"github.com/rollcall-go/rollcall/grpcx/internal/zonecounts"
	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/schedule"
)

// Name is the name of the policy in a target or a service config.
const Name = "rollcall_zone"

// Variable is the environment variable with the client's own zone. The setting zone overrides it.
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

// Guarded implements guard.Guarded: the policy heeds the restrictions of a resolver of package grpcx.
func (builder) Guarded() {}

// Build implements [balancer.Builder].
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		p := &policy{recorder: cc.MetricsRecorder()}
		p.turn.Store(rand.Uint32()) // so that clients that start together do not call the same instances at the same time
		p.Balancer = sharded.New(cc, o, sharded.PickFirst(o), p.picker)
		return p
	})
}

type policy struct {
	balancer.Balancer
	latest   atomic.Pointer[latest] // read when a connection changes its state, which may be at any time
	turn     atomic.Uint32
	recorder stats.MetricsRecorder
}

// latest is what the policy needs of the newest state of the channel.
type latest struct {
	config *config
	zones  choose.Zones
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, ok := s.BalancerConfig.(*config)
	if !ok { // the parent policy gives no config
		c = &config{zone: os.Getenv(Variable), threshold: defaultThreshold}
	}
	p.latest.Store(&latest{config: c, zones: zonecounts.From(s.ResolverState)})
	return p.Balancer.UpdateClientConnState(s)
}

func (p *policy) picker(children []sharded.Child) balancer.Picker {
	l := p.latest.Load()
	n := 0
	for i, child := range children {
		if l.config.owns(child.Zone) {
			children[i], children[n] = children[n], child
			n++
		}
	}
	ownChildren, otherChildren := children[:n], children[n:]
	own, other := sharded.NewGroup(ownChildren), sharded.NewGroup(otherChildren)
	share := choose.OwnShare(
		readiness(ownChildren, own)*l.zones.Share(l.config.owns),
		readiness(otherChildren, other)*l.zones.Share(func(zone string) bool { return !l.config.owns(zone) }),
		l.config.threshold,
	)
	if math.IsNaN(share) { // the instances that pass in the registry become known a moment before their endpoints
		share = float64(own.Len()) / float64(own.Len()+other.Len())
	}
	switch share {
	case 1:
		return &single{group: own, labels: localLabel, turn: &p.turn, recorder: p.recorder}
	case 0:
		return &single{group: other, labels: otherLabel, turn: &p.turn, recorder: p.recorder}
	}
	return &split{own: own, other: other, schedule: schedule.NewSplit(share), turn: &p.turn, recorder: p.recorder}
}

// readiness returns the ready share of children. g is the group of the ready ones.
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

package grpcx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx/internal/guard"
	"github.com/rollcall-go/rollcall/grpcx/internal/zonecounts"
	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/internal/pace"
	"github.com/rollcall-go/rollcall/registry"
)

// Scheme is the default scheme of targets: see [ResolverConfig].
const Scheme = "rollcall"

// NewBuilder returns a builder of gRPC resolvers over d, for grpc.WithResolvers or resolver.Register. Use [NewClient] if you can: it also
// sets the options that a resolver cannot set. A target has the form
//
//	rollcall:///SERVICE?tag=TAG&tag=TAG&version=VERSION&meta.KEY=VALUE&any-status=true
//
// These parameters are optional and have the same meaning as in [registry.Query]. any-status also turns off the health rules below.
// Further parameters are:
//
//	endpoint=NAME          dial Endpoints[NAME] of each instance that has it, instead of Address
//	subset=N               see ResolverConfig.Subset
//	panic-threshold=SHARE  see ResolverConfig.PanicThreshold; 0 and off mean never
//	empty-grace=DURATION   see ResolverConfig.EmptyGrace; 0 and off mean not at all
//	tls-name=host          verify the certificate of an instance for the host of its address instead of SERVICE
//	tls-name=meta.KEY      likewise, for its metadata KEY; for SERVICE if it has no such metadata
//	config=KEY             see ResolverConfig.ServiceConfigKey; off means none
//
// and, for [NewClient] only, health=NAME, policy=NAME and retry=package.Service/Method.
//
// A target that cannot be used is an error of grpc.NewClient or of the first call. The builder is safe for concurrent use. d must outlive
// its channels.
//
// # Which instances get calls
//
// Calls go to the instances that pass. There are these exceptions:
//
//   - If few instances pass, calls go to the others too (ResolverConfig.PanicThreshold).
//   - After all instances have left the registry, existing connections are used for a while (ResolverConfig.EmptyGrace).
//   - An instance in maintenance gets no new calls.
//   - An instance with weight 0 or less gets calls only if no other instance can serve. gRPC's own policies on a channel of
//     grpc.NewClient do not know weight 0, so such an instance is kept from them while an instance with a weight passes.
//
// "Instances that do not pass" in the doc of this package says which instances are dialled.
//
// # Outages
//
// Each channel watches d while it is not idle. Channels with the same query share one watch of a [registry.Registry], and a channel has
// the set that the Registry knows before its first call.
//
// While d reports an error, the channel keeps the last good set. If no set is known, or the service has no instances, calls fail with
// UNAVAILABLE and a text that says why; calls with WaitForReady wait. Once the channel has had an instance, the balancing policy chooses
// the text: all policies of a [NewClient] channel, and pick_first, show the reason. gRPC's own round_robin on other channels shows
// "no children to pick from".
//
// # TLS
//
// gRPC verifies that the certificate of every instance is for SERVICE, the name in the target. It ignores the host and the ID of the
// instance. So a certificate for the name of the service also protects against a service that took over an address. grpc.WithAuthority
// sets another name for all instances.
//
// If certificates are for hosts, tls-name takes the name from the registry. Then everyone who can write to the registry can choose which
// certificates are accepted, so the registry must be trusted like the issuer of the certificates.
func NewBuilder(d registry.Discovery, c ResolverConfig) resolver.Builder {
	return &builder{discovery: d, config: c}
}

type builder struct {
	discovery registry.Discovery
	config    ResolverConfig
	client    bool           // it belongs to NewClient, which sets the service config
	configs   *configSource  // of NewClient's channel; otherwise nil
	table     *instanceTable // may be nil
}

// Scheme implements [resolver.Builder].
func (b *builder) Scheme() string { return cmp.Or(b.config.Scheme, Scheme) }

// If the instances change all the time, the channel gets a burst of states, and then one each spacing. The spacing is longer for many
// endpoints and shorter for few, since a state costs round_robin about 1.5 µs for each endpoint, changed or not.
const (
	burst              = 4
	spacing            = 20 * time.Millisecond
	spacingPerEndpoint = 20 * time.Microsecond
)

// Build implements [resolver.Builder]. It fails only for a target that can never work, since gRPC does not try again.
func (b *builder) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	if b.discovery == nil {
		return nil, failure.New(opResolve, "", fmt.Errorf("%w: d is required: the Discovery that finds instances", registry.ErrInvalid))
	}
	to, err := parseTarget(t, b.config)
	if err != nil {
		return nil, failure.New(opResolve, "", err)
	}
	if (to.health != nil || to.policy != "" || to.retry != nil) && !b.client {
		return nil, failure.New(opResolve, to.Query.Service, fmt.Errorf(
			`%w: URL parameters "health", "policy" and "retry" are for grpcx.NewClient; on other channels the service config does it`, registry.ErrInvalid))
	}
	if err := choose.CheckValues(to.configKey, b.discovery); err != nil {
		return nil, failure.New(opResolve, to.Query.Service, err)
	}
	to.WatchAll()
	ctx, cancel := context.WithCancel(context.Background())
	r := &channelResolver{
		discovery: b.discovery, target: to, cc: cc, cancel: cancel, done: make(chan struct{}), endpoints: endpoints{target: to},
		meter: newMeter(o.MetricsRecorder, t.String()), table: b.table, pace: pace.New(burst, spacing, spacingPerEndpoint),
		client: b.client, config: valueConfig{source: b.configs},
	}
	policy := ""
	if b.configs != nil {
		policy = b.configs.policy()
	} else {
		given, known := givenServiceConfig(cc)
		// An earlier resolver of the channel may have given it another service config, which gRPC keeps while the channel is idle.
		r.config.source = &configSource{document: cmp.Or(given, "{}"), last: given, used: known}
	}
	r.state = choose.State{
		Rules: &to.Rules, Selector: choose.Selector{Rules: &to.Rules, Guarded: b.client}, Registry: choose.RegistryName(b.discovery),
		Lock: &r.mu, Use: r.endGrace, Began: r.count,
	}
	r.shown = clientstate.Add(clientstate.State{Kind: clientstate.GRPC, Target: t.URL.String(), Service: to.Query.Service,
		Registry: r.state.Registry, Policy: policy, Subset: to.Subset, Discovery: b.discovery})
	// What the registry remembers of a watch that has ended may be as old as the channel was idle, so only the watch says which instances
	// there are.
	go r.run(ctx)
	return r, nil
}

// channelResolver is the resolver of one channel.
type channelResolver struct {
	discovery registry.Discovery
	target    *target
	cc        resolver.ClientConn
	client    bool // see builder
	meter     *meter
	table     *instanceTable // gets the instances of each state; may be nil
	shown     *clientstate.Client
	cancel    context.CancelFunc
	done      chan struct{}

	// mu guards the fields below and the calls of cc, whose UpdateState blocks. The methods named in their docs as "locked" require it.
	mu     sync.Mutex
	pace   *pace.Pace    // of the states of cc
	pause  time.Duration // until cc may get the next state
	redial bool          // the registry answers again, and the policy was not told yet to dial failed instances

	state         choose.State // what the registry said, and what cc got last
	hasState      bool         // cc got a state
	endpoints     endpoints    // made from the instances in use
	emptyErr      string       // why calls fail because there is no instance, or ""
	graceReported bool         // cc was given an error in a grace period
	config        valueConfig  // the service config in the registry
}

// ResolveNow implements [resolver.Resolver]. It does nothing: the watch brings every change anyway, and gRPC calls it each time that a
// connection breaks.
func (r *channelResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver]. When it returns, nothing more is sent to the channel.
func (r *channelResolver) Close() {
	r.cancel()
	<-r.done
}

// run sends what the registry says to the channel, when the channel may get it.
func (r *channelResolver) run(ctx context.Context) {
	defer close(r.done)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.state.Close()
		r.meter.close()
		r.shown.Remove()
	}()
	var config sync.WaitGroup
	defer config.Wait()
	config.Go(func() { r.followConfig(ctx) })
	choose.Follow(ctx, r.discovery, r.target.Query, func(set []*registry.Instance, err error) time.Duration {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.receive(set, err)
		return r.takePause()
	})
}

// takePause returns how long to wait before the channel may get another state. Locked.
func (r *channelResolver) takePause() time.Duration {
	pause := r.pause
	r.pause = 0
	return pause
}

// receive handles a set and an error of the watch. If there is a set, the channel is not told the error: the set is the best that is known.
// Locked.
func (r *channelResolver) receive(set []*registry.Instance, err error) {
	defer r.showState()
	r.meter.setStale(err != nil)
	if err == nil && r.state.WatchError() != "" && r.state.Selector.Guarded {
		r.redial = true // what made the registry unreachable may have made instances unreachable
	}
	if err != nil {
		r.meter.count(metricErrors)
	}
	s, ok := r.state.Receive(set, err)
	if !ok {
		r.reportEmpty(choose.Selection{})
		return
	}
	r.send(s)
}

// count counts that a condition begins. Locked.
func (r *channelResolver) count(c choose.Condition) {
	switch c {
	case choose.Emptied:
		r.meter.count(metricGracePeriods)
	case choose.Panicking:
		r.meter.count(metricPanics)
	}
}

// send gives the channel a state with the selected instances, if it differs from the last state. Locked.
func (r *channelResolver) send(s choose.Selection) {
	r.state.LogPanic(s)
	r.meter.panicking.Store(s.Panicking)
	// A channel that has never had an address has no policy that could be given an empty set.
	if r.isNews(s) && (r.hasState || len(s.Use) > 0) {
		notice := r.sendState(s)
		if !r.state.Selector.Guarded && notice.Heeded() { // the policy heeds restrictions, so it can get the drained instances too
			r.state.Selector.Guarded = true
			if s.Drained > 0 && !r.state.InGrace() {
				r.send(r.state.Again())
				return
			}
		}
	}
	r.reportEmpty(s)
}

// isNews reports whether s differs from the last state, or the channel must get its last state again. Locked.
func (r *channelResolver) isNews(s choose.Selection) bool {
	again, used := r.redial || r.graceReported && !r.state.InGrace() || r.mayTakeConfig(), r.state.Used()
	r.graceReported = r.graceReported && r.state.InGrace()
	return again || !slices.EqualFunc(s.Use, used.Use, (*registry.Instance).Equal) || !maps.Equal(s.Zones, used.Zones) ||
		!maps.Equal(s.Restrictions, used.Restrictions)
}

// sendState gives the channel a state. Locked.
func (r *channelResolver) sendState(s choose.Selection) *guard.Notice {
	all := r.endpoints.update(s.Use)
	r.hasState = true
	r.state.SetUsed(s)
	if r.table != nil {
		r.table.set(r.target, s.Use)
	}
	notice := &guard.Notice{Restrictions: s.Restrictions, Why: r.state.UnreachableReason(), Redial: r.redial}
	r.redial = false
	if len(all) == 0 {
		notice.Why = r.state.EmptyReason(s)
	}
	// An error of UpdateState asks for another attempt, which would send the same.
	_ = r.cc.UpdateState(guard.Set(zonecounts.Set(resolver.State{Endpoints: all, ServiceConfig: r.takeConfig()}, s.Zones), notice))
	r.pause = r.pace.Next(len(all))
	r.meter.count(metricUpdates)
	r.meter.gauge(metricEndpoints, len(all))
	if r.target.Subset > 0 {
		r.meter.gauge(metricSubset, len(all))
	}
	return notice
}

// reportEmpty makes calls fail with the reason if there is no instance that they could go to. The error wraps no other: a gRPC status in it
// would become the status of the calls, and would end even calls with WaitForReady. Locked.
func (r *channelResolver) reportEmpty(s choose.Selection) {
	r.emptyErr = ""
	if !r.state.InGrace() && len(r.state.Used().Use) > 0 {
		return
	}
	r.graceReported = r.graceReported || r.state.InGrace()
	r.emptyErr = r.state.EmptyReason(s)
	r.cc.ReportError(errors.New(r.emptyErr))
}

// endGrace uses a selection at the end of a grace period. Locked.
func (r *channelResolver) endGrace(s choose.Selection) {
	r.send(s)
	r.showState()
}

// showState tells the status page how the channel is. Locked.
func (r *channelResolver) showState() {
	r.shown.Set(len(r.endpoints.all), r.state.IsPanicking(), cmp.Or(r.emptyErr, r.state.WatchError()))
}

package grpcx

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx/internal/passing"
	"github.com/rollcall-go/rollcall/internal/pace"
	"github.com/rollcall-go/rollcall/registry"
)

// Scheme is that of targets unless [ResolverConfig] says otherwise.
const Scheme = "rollcall"

// NewBuilder returns a builder of gRPC resolvers over d, for grpc.WithResolvers or resolver.Register. Targets have the
// form
//
//	rollcall:///SERVICE?tag=TAG&tag=TAG&version=VERSION&meta.KEY=VALUE&any-status=true
//
// where each of these parameters is optional and means what it does in [registry.Query]; any-status also turns off what is
// said of health below. There are further ones:
//
//	endpoint=NAME          dials Endpoints[NAME] of each instance that has it, in place of Address
//	subset=N               see ResolverConfig.Subset
//	panic-threshold=SHARE  see ResolverConfig.PanicThreshold; 0 is never
//	empty-hold=DURATION    see ResolverConfig.EmptyHold; 0 is not at all
//
// and two that NewClient alone understands, see there: health=NAME and policy=NAME.
//
// A target that cannot be used is an error from grpc.NewClient or the first call. Each channel watches d for as long as it
// is not idle; channels with one target share one query, as [registry.Registry] does it. What a Registry knows already the
// channel has before its first call.
//
// Calls go to the instances that pass. They also go to others while those that pass are few ([ResolverConfig].PanicThreshold),
// and to the last ones for a while after all have gone (EmptyHold). An instance in maintenance, or with weight 0 where
// others have one, gets no new calls in any case.
//
// While d reports an error the channel goes on with the last good set. Calls fail with UNAVAILABLE and a text that says
// why only where no set is known at all, or the service has no instances; calls that wait for ready wait. Once the
// channel has had an instance, that text is the policy's to show: those of [NewClient] and pick_first do, while gRPC's own
// round_robin says "no children to pick from". The builder is safe for concurrent use; d must outlive its channels.
func NewBuilder(d registry.Discovery, c ResolverConfig) resolver.Builder {
	return &builder{discovery: d, config: c}
}

type builder struct {
	discovery registry.Discovery
	config    ResolverConfig
	client    bool // of NewClient, which makes the service config
	served    *served
}

// Scheme implements [resolver.Builder].
func (b *builder) Scheme() string { return cmp.Or(b.config.Scheme, Scheme) }

// A channel whose instances change without end gets a state each spacing, or later where it has so many endpoints, and sooner
// where it has few, after a burst of them: a state costs round_robin about 1.5 µs for each endpoint, changed or not.
const (
	burst              = 4
	spacing            = 20 * time.Millisecond
	spacingPerEndpoint = 20 * time.Microsecond
)

// knower is what d may also be: something that has sets at hand, as [registry.Registry] has.
type knower interface {
	Known(registry.Query) ([]*registry.Instance, bool)
}

// Build implements [resolver.Builder]. It fails only for a target that can never work, since gRPC does not try again.
func (b *builder) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	to, err := parseTarget(t, b.config)
	if err != nil {
		return nil, err
	}
	if (to.health != nil || to.policy != "") && !b.client {
		return nil, fmt.Errorf(`rollcall: %w: URL parameters "health" and "policy" are for grpcx.NewClient; elsewhere the service config does it`, registry.ErrInvalid)
	}
	if !to.query.AnyStatus && to.config.PanicThreshold > 0 {
		to.query.AnyStatus, to.all = true, true
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &watcher{
		discovery: b.discovery, target: to, cc: cc, cancel: cancel, done: make(chan struct{}), choice: chooser{target: to}, made: endpoints{target: to},
		meter: newMeter(o.MetricsRecorder, t.String()), served: b.served, pace: pace.New(burst, spacing, spacingPerEndpoint),
	}
	if k, ok := b.discovery.(knower); ok {
		if set, ok := k.Known(to.query); ok {
			r.mu.Lock()
			r.deliver(set, nil)
			r.mu.Unlock()
		}
	}
	go r.run(ctx)
	return r, nil
}

// watcher is the resolver of one channel.
type watcher struct {
	discovery registry.Discovery
	target    *target
	cc        resolver.ClientConn
	meter     *meter
	served    *served // told which instances there are; may be nil
	cancel    context.CancelFunc
	done      chan struct{}

	mu       sync.Mutex           // guards what follows, and the calls of cc, whose UpdateState blocks
	pace     *pace.Pace           // of the states of cc
	rest     time.Duration        // how long the last state asks for before the next
	resolved bool                 // cc has a state
	sent     []*registry.Instance // its instances
	choice   chooser              // of those that calls go to
	made     endpoints            // and what they were made into
	zones    passing.Zones        // and which of their neighbours were left out
	newest   []*registry.Instance // the set that the registry gave last
	why      string               // what the registry said beside it
	panics   bool
	hold     *time.Timer // nil where the last instances are not held
	doubted  bool        // the channel was told of a hold
}

// ResolveNow implements [resolver.Resolver]. It does nothing: the watch brings every change by itself, and gRPC asks each
// time that a connection breaks.
func (r *watcher) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver]. It returns when nothing more is sent to the channel.
func (r *watcher) Close() {
	r.cancel()
	<-r.done
}

// run brings the channel what the watch yields. A watch is asked for its next pair when the channel is ready for one: what came
// meanwhile is skipped.
func (r *watcher) run(ctx context.Context) {
	defer close(r.done)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.endHold()
		r.meter.close()
	}()
	for set, err := range r.discovery.Watch(ctx, r.target.query) {
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.deliver(set, err)
		rest := r.rest
		r.rest = 0
		r.mu.Unlock()
		wait(ctx, rest)
	}
}

// wait keeps what follows from the channel for as long as its last state asks for.
func wait(ctx context.Context, rest time.Duration) {
	if rest <= 0 {
		return
	}
	over := time.NewTimer(rest)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	}
}

// deliver brings a pair of the watch to the channel. An error beside a set is none to gRPC: the set is all there is. r.mu is held.
func (r *watcher) deliver(set []*registry.Instance, err error) {
	r.meter.setStale(err != nil)
	if r.why = ""; err != nil {
		r.why = err.Error()
		r.meter.count(metricErrors)
	}
	if set == nil && err != nil {
		r.explain(choice{})
		return
	}
	r.newest = set
	switch {
	case len(set) > 0:
		if r.endHold() {
			r.log(slog.LevelInfo, "there are instances again", "instances", len(set))
		}
	case r.hold != nil || len(r.sent) > 0 && r.beginHold():
		r.explain(choice{})
		return
	}
	r.send(r.choice.choose(set))
}

// send makes the instances of c those of the channel. r.mu is held.
func (r *watcher) send(c choice) {
	if c.panics != r.panics {
		r.panics = c.panics
		if c.panics {
			r.meter.count(metricPanics)
			r.log(slog.LevelWarn, "too few instances pass for that to be believed: all are used", "passing", c.passing, "instances", len(c.use))
		} else {
			r.log(slog.LevelInfo, "enough instances pass again", "passing", c.passing)
		}
	}
	// A channel that never had an address has no policy that could be told of an empty set.
	news := r.doubted || !slices.EqualFunc(c.use, r.sent, (*registry.Instance).Equal) || !maps.Equal(c.zones, r.zones)
	r.doubted = false
	if news && (r.resolved || len(c.use) > 0) {
		all := r.made.update(c.use)
		r.resolved, r.sent, r.zones = true, c.use, c.zones
		if r.served != nil {
			r.served.know(r.target, c.use)
		}
		// The error that it may return asks for another attempt. What there is has been sent.
		_ = r.cc.UpdateState(passing.Set(resolver.State{Endpoints: all}, c.zones))
		r.rest = r.pace.Next(len(all))
		r.meter.count(metricUpdates)
		r.meter.gauge(metricEndpoints, len(all))
		if r.target.config.Subset > 0 {
			r.meter.gauge(metricSubset, len(all))
		}
	}
	r.explain(c)
}

// explain makes calls that have nowhere to go fail with the reason. It has no error wrapped into it: a gRPC status in there
// would become that of the calls, also of those that wait.
func (r *watcher) explain(c choice) {
	where := ""
	if s, ok := r.discovery.(fmt.Stringer); ok {
		where = " in " + s.String()
	}
	why := r.why
	switch {
	case r.hold != nil:
		r.doubted = true
		why = fmt.Sprintf("no instance is registered any more; the last %d are used for %v after that", len(r.sent), r.target.config.EmptyHold)
	case len(r.sent) > 0:
		return // calls have somewhere to go
	case why != "":
	case c.draining > 0 && c.passing == 0:
		why = fmt.Sprintf("all %d instances are in maintenance, or have weight 0", c.draining)
	case c.passing > 0:
		why = fmt.Sprintf("none of the instances that pass has an endpoint %q", r.target.endpoint)
	default:
		why = "no passing instance is registered"
	}
	r.cc.ReportError(fmt.Errorf("service %q%s: %s", r.target.query.Service, where, why))
}

func (r *watcher) log(level slog.Level, text string, more ...any) {
	name := ""
	if s, ok := r.discovery.(fmt.Stringer); ok {
		name = s.String()
	}
	r.target.config.Logger.Log(context.Background(), level, "rollcall: "+text,
		append([]any{"registry", name, "service", r.target.query.Service}, more...)...)
}

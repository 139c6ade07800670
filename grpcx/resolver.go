package grpcx

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// Scheme is that of targets unless [ResolverConfig] says otherwise.
const Scheme = "rollcall"

// ResolverConfig tunes [NewBuilder]. The zero value works.
type ResolverConfig struct {
	// Scheme is that of the targets that the builder is for, in lower case and without '_', which gRPC would not find.
	// Default: [Scheme].
	Scheme string
}

// NewBuilder returns a builder of gRPC resolvers over d, for grpc.WithResolvers or resolver.Register. Targets have the
// form
//
//	rollcall:///SERVICE?tag=TAG&tag=TAG&version=VERSION&meta.KEY=VALUE&any-status=true
//
// where each parameter is optional and means what it does in [registry.Query]. A target that cannot be used is an error
// from grpc.NewClient or the first call. Each channel watches d for as long as it is not idle; channels with one target
// share one query, as [registry.Registry] does it.
//
// While d reports an error the channel goes on with the last good set. Calls fail with UNAVAILABLE and a text that says
// why only where no set is known at all, or the service has no instances; calls that wait for ready wait. Once the
// channel has had an instance, that text is the policy's to show: those of [NewClient] and pick_first do, while gRPC's own
// round_robin says "no children to pick from". The builder is safe for concurrent use; d must outlive its channels.
func NewBuilder(d registry.Discovery, c ResolverConfig) resolver.Builder {
	return &builder{discovery: d, scheme: cmp.Or(c.Scheme, Scheme)}
}

type builder struct {
	discovery registry.Discovery
	scheme    string
}

// Scheme implements [resolver.Builder].
func (b *builder) Scheme() string { return b.scheme }

// Build implements [resolver.Builder]. It fails only for a target that can never work, since gRPC does not try again.
func (b *builder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	q, err := parseTarget(t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &watcher{discovery: b.discovery, query: q, cc: cc, cancel: cancel, done: make(chan struct{})}
	go r.run(ctx)
	return r, nil
}

// watcher is the resolver of one channel. Its goroutine is the only one that calls cc, whose UpdateState blocks.
type watcher struct {
	discovery registry.Discovery
	query     registry.Query
	cc        resolver.ClientConn
	cancel    context.CancelFunc
	done      chan struct{}

	resolved bool                 // cc has a state; only the goroutine uses it, and sent
	sent     []*registry.Instance // its set
}

// ResolveNow implements [resolver.Resolver]. It does nothing: the watch brings every change by itself, and gRPC asks each
// time that a connection breaks.
func (r *watcher) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver]. It returns when nothing more is sent to the channel.
func (r *watcher) Close() {
	r.cancel()
	<-r.done
}

func (r *watcher) run(ctx context.Context) {
	defer close(r.done)
	for set, err := range r.discovery.Watch(ctx, r.query) {
		r.deliver(set, err)
	}
}

// deliver brings a pair of the watch to the channel. An error beside a set is none to gRPC: the set is all there is.
func (r *watcher) deliver(set []*registry.Instance, err error) {
	news := len(set) > 0 // a channel that never had an address has no policy that could be told of an empty set
	if r.resolved {
		news = set != nil && !slices.Equal(set, r.sent)
	}
	if news {
		r.resolved, r.sent = true, set
		// The error that it may return asks for another attempt. What there is has been sent.
		_ = r.cc.UpdateState(resolver.State{Endpoints: endpoints(set)})
	}
	switch {
	case len(r.sent) > 0: // calls have somewhere to go
	case err != nil:
		r.report(err.Error())
	default:
		r.report("no passing instance is registered")
	}
}

// report makes calls fail that have nowhere to go. The text has no error wrapped into it: a gRPC status in there would
// become that of the calls, also of those that wait.
func (r *watcher) report(why string) {
	where := ""
	if s, ok := r.discovery.(fmt.Stringer); ok {
		where = " in " + s.String()
	}
	r.cc.ReportError(fmt.Errorf("service %q%s: %s", r.query.Service, where, why))
}

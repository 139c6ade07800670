package grpcx

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/health" // implements health checks of clients
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/registry"
)

// By default a server closes connections that are probed more often than every five minutes (keepalive.EnforcementPolicy.MinTime, and
// gRFC A8).
const (
	keepaliveTime    = 6 * time.Minute
	keepaliveTimeout = 20 * time.Second
)

// NewClient returns a channel to the service in target, which has the form rollcall:///SERVICE?parameter=value: [NewBuilder] lists the
// parameters. d must outlive the channel. NewClient does not block. The caller closes the channel.
//
// NewClient is grpc.NewClient with these defaults, which opts override:
//
//   - The policy is rollcall_round_robin, which spreads calls over all instances: gRPC's own default, pick_first, sends all calls to one
//     instance. It is gRPC's round_robin, but a call that fails because there is no instance names the service and the registry.
//     policy=NAME in the target selects another policy, such as rollcall_p2c; import its package, in this case grpcx/p2c.
//   - Calls are not repeated, unless gRPC knows that no server has seen them (its transparent retry), or the method is declared
//     idempotent: see "Repeated calls" below.
//   - With health=NAME in the target, an instance gets calls only while its gRPC health service says that NAME is serving. "health=" asks
//     for the server as a whole. If the servers do not know NAME, every call fails.
//   - No HTTP proxy, by grpc.WithNoProxy. If HTTPS_PROXY is set, gRPC replaces the addresses of all instances by the address of the
//     proxy, and all calls reach one instance. The caller can dial through a proxy by grpc.WithContextDialer.
//   - An attempt to connect may take 5 s, TLS included. The next attempt follows after 1 s, and later ones after up to 3 s (times 0.8
//     to 1.2 at random; gRPC's default is up to 2 minutes). So calls succeed within 10 s after a server is back, however long it was
//     away. When the registry answers again after an outage, all failed connections are tried at once. grpc.WithConnectParams replaces
//     these times.
//   - A connection with calls on it is probed after 6 minutes without traffic, which is just within what servers allow by default. On
//     Linux, a connection is closed if sent data is not acknowledged for 20 s. grpc.WithKeepaliveParams replaces both.
//
// [WithResolverConfig] among opts tunes the resolver, and [WithRetry] the retries. opts must include transport credentials, as with
// grpc.NewClient.
//
// # Repeated calls
//
// A call that ends with UNAVAILABLE may have had its effects: the server may have failed after handling it, or the connection may have
// broken after the request was sent. So NewClient repeats such a call only if its method is declared idempotent in its .proto file,
//
//	rpc GetOrder(GetOrderRequest) returns (Order) { option idempotency_level = NO_SIDE_EFFECTS; } // or IDEMPOTENT
//
// or is named by [WithRetry] or by retry=package.Service/Method in the target, which may be given several times. The call is repeated up
// to twice, on another instance if there is one, after 50 and 100 ms (times 0.8 to 1.2 at random), within the budget of [Retry]. Calls
// whose answer has begun and calls with a stream of requests are never repeated. grpc.WithDisableRetry turns repeating off.
//
// To have more calls survive a crash, make their methods idempotent, for example by a key that the server remembers, and declare them so.
// A server that leaves by [Server.Serve] fails no call.
//
// # Service config
//
// The channel's service config combines the target with the caller's config, which is the argument of grpc.WithDefaultServiceConfig:
//
//   - The target's policy comes first, with the caller's settings for a policy of that name; then the caller's policy
//     (loadBalancingConfig or loadBalancingPolicy); then rollcall_round_robin. Policies of other modules are wrapped: see "Instances that
//     do not pass" in the doc of this package.
//   - The target's health check comes first, then the caller's.
//   - methodConfig is the caller's. Retries of idempotent methods are added to it, unless the caller has a retryPolicy for them. They keep
//     the timeout and the limits of the caller's entry that fits them best. The caller's own retryPolicy applies to streams too.
//   - Everything else is the caller's.
//
// With [ResolverConfig].ServiceConfigKey or config=KEY in the target, a value in the registry takes the place of the caller's config.
//
// The error is a *[registry.Error]. It wraps [registry.ErrInvalid] if target has another scheme, which gRPC would treat as a DNS name
// without an error, or if the target or an option cannot be used. It names each such part with its value.
func NewClient(target string, d registry.Discovery, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	config := configIn(opts)
	to, err := parseClientTarget(target, d, config)
	if err != nil {
		return nil, failure.New(opNewClient, "", err)
	}
	if err := choose.CheckValues(to.configKey, d); err != nil {
		return nil, failure.New(opNewClient, to.Query.Service, err)
	}
	retry := retryIn(opts)
	retry.Methods = slices.Concat(retry.Methods, to.retry)
	if err := retry.check(); err != nil {
		return nil, failure.New(opNewClient, to.Query.Service, err)
	}
	table := new(instanceTable)
	b := &builder{discovery: d, config: config, client: true, table: table}
	defaults := []grpc.DialOption{
		grpc.WithResolvers(b),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(connectParams()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}
	innermost := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(table.unary),
		grpc.WithChainStreamInterceptor(table.stream, retry.undescribed().stream),
	}
	conn, caller, merged, err := dial(target, to, retry, slices.Concat(defaults, opts, innermost))
	if err != nil {
		return nil, failure.New(opNewClient, to.Query.Service, err)
	}
	// gRPC builds the resolver when conn is first used.
	b.configs = &configSource{document: caller, last: merged, merge: func(document, wrapper string) (string, error) {
		return mergedServiceConfig(to, retry, document, wrapper)
	}}
	return conn, nil
}

// connectParams makes calls succeed again within 10 s after a server is back, however long it was away: an attempt in progress may hang for
// connectTimeout, and the next begins at most 1.2 times maxBackoff after it. The rest is gRPC's default.
func connectParams() grpc.ConnectParams {
	p := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}
	p.Backoff.MaxDelay = maxBackoff
	return p
}

const (
	maxBackoff     = 3 * time.Second
	connectTimeout = 5 * time.Second
)

// The operations of clients that errors name.
const (
	opNewClient = "new client"
	opResolve   = "resolve"
)

// parseClientTarget parses the target as gRPC will, so that NewClient reports what is wrong with it, and not the first call.
func parseClientTarget(text string, d registry.Discovery, c ResolverConfig) (*target, error) {
	refuse := func(format string, args ...any) (*target, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{registry.ErrInvalid}, args...)...)
	}
	if d == nil {
		return refuse("d is required: the Discovery that finds instances")
	}
	if c.Scheme != "" && c.Scheme != Scheme {
		return refuse("ResolverConfig.Scheme: %q is not %q; NewBuilder accepts other schemes", c.Scheme, Scheme)
	}
	if !strings.HasPrefix(text, Scheme+":") {
		return refuse("target: it does not have the form %s:///SERVICE?parameter=value", Scheme)
	}
	u, err := url.Parse(text)
	if err != nil {
		var withTarget *url.Error // its text has the whole target, which may contain a secret
		if errors.As(err, &withTarget) {
			err = withTarget.Err
		}
		return refuse("target: %w", err)
	}
	return parseTarget(resolver.Target{URL: *u}, c)
}

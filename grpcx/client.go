package grpcx

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // which asks servers for their health
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// A server that says nothing else closes connections that are probed more often than every five minutes
// (keepalive.EnforcementPolicy.MinTime, and gRFC A8).
const (
	keepaliveTime    = 6 * time.Minute
	keepaliveTimeout = 20 * time.Second
)

// serviceConfig is the JSON form of gRPC's own, see https://github.com/grpc/grpc/blob/master/doc/service_config.md.
type serviceConfig struct {
	Balancing  []map[string]struct{} `json:"loadBalancingConfig"`
	Methods    []methodConfig        `json:"methodConfig"`
	Throttling retryThrottling       `json:"retryThrottling"`
	Health     *healthCheckConfig    `json:"healthCheckConfig,omitempty"`
}

type methodConfig struct {
	Name  []struct{}  `json:"name"`
	Retry retryPolicy `json:"retryPolicy"`
}

type retryPolicy struct {
	MaxAttempts       int      `json:"maxAttempts"`
	InitialBackoff    string   `json:"initialBackoff"`
	MaxBackoff        string   `json:"maxBackoff"`
	BackoffMultiplier float64  `json:"backoffMultiplier"`
	Codes             []string `json:"retryableStatusCodes"`
}

type retryThrottling struct {
	MaxTokens  int     `json:"maxTokens"`
	TokenRatio float64 `json:"tokenRatio"`
}

type healthCheckConfig struct {
	ServiceName string `json:"serviceName"`
}

// defaultServiceConfig is that of a channel of NewClient. What it says stands in the doc there.
func defaultServiceConfig(to *target) string {
	c := serviceConfig{
		Balancing: []map[string]struct{}{{cmp.Or(to.policy, policyName): {}}},
		Methods: []methodConfig{{Name: []struct{}{{}}, Retry: retryPolicy{
			MaxAttempts: 3, InitialBackoff: "0.05s", MaxBackoff: "1s", BackoffMultiplier: 2, Codes: []string{"UNAVAILABLE"},
		}}},
		Throttling: retryThrottling{MaxTokens: 100, TokenRatio: 0.1},
	}
	if to.health != nil {
		c.Health = &healthCheckConfig{*to.health}
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return string(text)
}

// NewClient returns a channel to the service that target names, in the form that [NewBuilder] has: rollcall:///SERVICE,
// with parameters. d must outlive it. It does not block; the caller closes the channel.
//
// It is grpc.NewClient with these defaults, which opts override:
//
//   - round_robin, and not pick_first, which sends all calls to one instance. Its name is rollcall_round_robin, since calls
//     that fail because the last instance has gone say which service, and in which registry. The parameter policy=NAME in
//     the target takes another one with its own defaults, such as rollcall_p2c of the package p2c below this one, which is
//     to be imported. A service config of the caller's, by grpc.WithDefaultServiceConfig, replaces this and the next two.
//   - Calls that end with UNAVAILABLE are made up to twice again, on another instance where there is one, after 50 and 100 ms
//     (by half and half at random). There is a budget: 50 such calls at once, and then one for ten that succeed. A call of
//     which the server has begun to answer is not made again. grpc.WithDisableRetry turns it off.
//   - With the parameter health=NAME in the target, an instance gets calls only while its gRPC health service says that NAME
//     is serving; "health=" asks for the server as a whole. A name that the servers do not know fails every call.
//   - No HTTP proxy, through grpc.WithNoProxy: with HTTPS_PROXY set gRPC would hand the proxy's address to the balancer in
//     place of those of the instances, and all calls would end at one. A grpc.WithContextDialer of the caller's can dial
//     through one.
//   - A connection with calls on it is probed after 6 minutes of silence, just within what servers allow by default, and one
//     on which nothing sent is confirmed for 20 s is given up (on Linux). grpc.WithKeepaliveParams replaces it.
//
// [WithResolverConfig] among opts tunes the resolver. opts must hold transport credentials, as with grpc.NewClient.
//
// The error wraps [registry.ErrInvalid] for a target of another scheme, which gRPC would silently take for a DNS name, or
// whose parts cannot be used.
func NewClient(target string, d registry.Discovery, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	config := configIn(opts)
	to, err := parseClientTarget(target, config)
	if err != nil {
		return nil, err
	}
	table := new(served)
	defaults := []grpc.DialOption{
		grpc.WithResolvers(&builder{discovery: d, config: config, client: true, served: table}),
		grpc.WithDefaultServiceConfig(defaultServiceConfig(to)),
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithChainUnaryInterceptor(table.unary),
		grpc.WithChainStreamInterceptor(table.stream),
	}
	return grpc.NewClient(target, append(defaults, opts...)...)
}

// parseClientTarget reads the target as gRPC will, so that what is wrong with it is known before the first call.
func parseClientTarget(text string, c ResolverConfig) (*target, error) {
	fail := func(why string) (*target, error) {
		return nil, fmt.Errorf("rollcall: %w: target: %s", registry.ErrInvalid, why)
	}
	if c.Scheme != "" && c.Scheme != Scheme {
		return fail(fmt.Sprintf("the Scheme of its ResolverConfig is %q; only NewBuilder takes another than %s", c.Scheme, Scheme))
	}
	if !strings.HasPrefix(text, Scheme+":") {
		return fail(fmt.Sprintf("it does not have the form %s:///SERVICE?parameter=value", Scheme))
	}
	u, err := url.Parse(text)
	if err != nil {
		var quotes *url.Error // the whole text
		if errors.As(err, &quotes) {
			err = quotes.Err
		}
		return fail(err.Error())
	}
	return parseTarget(resolver.Target{URL: *u}, c)
}

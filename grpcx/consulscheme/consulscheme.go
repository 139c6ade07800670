// Package consulscheme registers the gRPC resolver scheme consul, for programs that call grpc.NewClient themselves. Import it for that
// effect:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/consulscheme"
//
//	conn, err := grpc.NewClient("consul://127.0.0.1:8500/greeter?tag=blue",
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
//		grpc.WithNoProxy(),
//		grpc.WithTransportCredentials(creds))
//
// Use the two dial options. Without the first, gRPC sends all calls to one instance. Without the second, and if HTTPS_PROXY is set, gRPC
// replaces the addresses of the instances by the address of the proxy. A resolver cannot set them without replacing the caller's service
// config; grpcx.NewClient sets both. The policy rollcall_round_robin is round_robin, but a call that fails because there is no instance
// names the service.
//
// # Targets
//
// A target has the form consul://[user:password@]host:port/SERVICE?parameter=value&…, with the parameters of grpc-consul-resolver:
//
//	tag                 only instances with this tag
//	healthy             only instances that pass, as long as half of them do (grpcx.DefaultPanicThreshold); default
//	                    true, unlike there
//	wait                how long a blocking query waits, from 1s to 10m; default 45s
//	timeout             limit of a call that does not wait for a change; default 12s
//	max-backoff         longest pause before a failed call is repeated; default 2s
//	near                with limit: the node from which distances are measured; default _agent
//	limit               the number of instances, nearest first; default all
//	token               ACL token; default CONSUL_HTTP_TOKEN
//	dc                  datacenter; default the datacenter of the agent
//	allow-stale         any server may answer, even if it lags behind
//	require-consistent  the leader confirms that it is the leader
//	insecure            with TLS, which CONSUL_HTTP_SSL turns on: accept any certificate; default false, unlike there
//
// An unknown parameter is an error. Other settings come from the environment variables of Consul, as in package consul. A target that
// cannot be used is an error of grpc.NewClient or of the first call, and wraps a *[registry.Error].
//
// # Sharing
//
// Channels with the same connection settings share one client of Consul, and channels with the same query share one blocking query. Both
// stay open for 30 s after the last channel was closed or became idle.
//
// # Secrets
//
// gRPC shows the whole target in its own log, in channelz, and in the label grpc.target of its metrics. So keep secrets out of the target:
// set CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE, and CONSUL_HTTP_AUTH.
package consulscheme

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

const scheme = "consul"

func init() { resolver.Register(builder{}) }

type builder struct{}

// Scheme implements [resolver.Builder].
func (builder) Scheme() string { return scheme }

// Build implements [resolver.Builder]. It fails only for a target that can never work, since gRPC does not try again.
func (builder) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	reg, q, release, err := open(t)
	if err != nil {
		return nil, failure.New("resolve", "", err) // without the service, which may be a part of a secret
	}
	r, err := grpcx.NewBuilder(reg, grpcx.ResolverConfig{}).Build(resolver.Target{URL: targetOf(q)}, cc, o)
	if err != nil {
		release()
		return nil, err
	}
	return &channel{Resolver: r, release: release}, nil
}

// open returns the client for a target, the query in the target, and a function that releases the client. The error shows no secret.
func open(t resolver.Target) (*registry.Registry, registry.Query, func(), error) {
	c, q, err := parse(t)
	if err != nil {
		return nil, q, nil, err
	}
	reg, release, err := clients.acquire(c)
	return reg, q, release, urlparam.Conceal(&t.URL, err, "token")
}

// targetOf returns q in the form of a target of package grpcx.
func targetOf(q registry.Query) url.URL {
	parameters := url.Values{"tag": q.Tags, "any-status": {strconv.FormatBool(q.AnyStatus)}}
	return url.URL{Scheme: grpcx.Scheme, Path: "/" + q.Service, RawQuery: parameters.Encode()}
}

// channel is the resolver of one channel. It uses a shared client.
type channel struct {
	resolver.Resolver
	release func()
}

// Close implements [resolver.Resolver].
func (c *channel) Close() {
	c.Resolver.Close()
	c.release()
}

// parse parses a target. Its error names every part that cannot be used, and shows no secret.
func parse(t resolver.Target) (consul.Config, registry.Query, error) {
	if err := urlparam.Rest(&t.URL); err != nil {
		return consul.Config{}, registry.Query{}, err
	}
	user, password, userErr := urlparam.User(&t.URL)
	c := consul.Config{Username: registry.NewSecret(user), Password: registry.NewSecret(password)}
	if t.URL.Host != "" {
		c.Addresses = strings.Split(t.URL.Host, ",")
	}
	q := registry.Query{Service: t.Endpoint()}

	p := urlparam.Parse(t.URL.RawQuery)
	var tag string
	healthy, insecure, maxBackoff := true, false, time.Duration(0)
	p.String("tag", &tag)
	p.Bool("healthy", &healthy)
	p.Duration("wait", &c.Wait)
	p.Duration("timeout", &c.Timeout)
	p.Duration("max-backoff", &maxBackoff)
	p.String("near", &c.Near)
	p.Int("limit", &c.Limit)
	p.Secret("token", &c.Token)
	p.String("dc", &c.Datacenter)
	p.Bool("allow-stale", &c.Stale)
	p.Bool("require-consistent", &c.Consistent)
	p.Bool("insecure", &insecure)

	if tag != "" {
		q.Tags = []string{tag}
	}
	q.AnyStatus = !healthy
	c.TLS.InsecureSkipVerify = insecure && usesTLS() // which would turn TLS on
	if c.Limit > 0 && c.Near == "" {
		c.Near = "_agent"
	}
	if maxBackoff > 0 {
		c.Options.BackoffMax = maxBackoff
		c.Options.BackoffMin = min(maxBackoff, registry.DefaultBackoffMin)
	}
	errs := []error{p.Err(), userErr, urlparam.Conceal(&t.URL, q.Validate(), "token")}
	if maxBackoff < 0 {
		errs = append(errs, fmt.Errorf("%w: URL parameter \"max-backoff\": %v is negative", registry.ErrInvalid, maxBackoff))
	}
	if t.URL.Host == "" {
		errs = append(errs, fmt.Errorf("%w: host is required: consul://host:port/SERVICE", registry.ErrInvalid))
	}
	return c, q, oneline.Join(errs...)
}

// usesTLS reports whether the environment turns TLS on, which no parameter does.
func usesTLS() bool {
	on, err := strconv.ParseBool(os.Getenv("CONSUL_HTTP_SSL"))
	return err == nil && on
}

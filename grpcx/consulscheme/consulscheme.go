// Package consulscheme registers the gRPC resolver scheme consul, for programs that call grpc.NewClient themselves. Import
// it for that effect:
//
//	import _ "github.com/rollcall-go/rollcall/grpcx/consulscheme"
//
//	conn, err := grpc.NewClient("consul://127.0.0.1:8500/greeter?tag=blue",
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
//		grpc.WithNoProxy(),
//		grpc.WithTransportCredentials(creds))
//
// The form of a target is consul://[user:password@]host:port/SERVICE?parameter=value&…, with the parameters that users of
// grpc-consul-resolver know:
//
//	tag                 only instances with this tag
//	healthy             only instances that are passing, as long as half of them are (grpcx.DefaultPanicThreshold); default
//	                    true, unlike there
//	wait                how long a blocking query waits, from 1s to 10m; default 60s
//	timeout             bound of a call that does not wait for a change; default 12s
//	max-backoff         longest wait before a failed call is made again; default 2s
//	near                with limit: the node that nearest is meant of; default _agent
//	limit               only the nearest so many instances; default all
//	token               ACL token; default CONSUL_HTTP_TOKEN
//	dc                  datacenter; default that of the agent
//	allow-stale         any server may answer, also one that lags behind
//	require-consistent  the leader confirms that it is the leader
//	insecure            with TLS, which CONSUL_HTTP_SSL turns on: take any certificate; default false, unlike there
//
// An unknown parameter is an error. What else the environment sets for Consul applies as in package consul.
//
// The two dial options above are worth having: without the first, gRPC sends all calls to one instance; without the
// second and with HTTPS_PROXY set, it loses the instances' addresses to the proxy's. A resolver cannot set them: what it
// can set, a service config, would replace the caller's. grpcx.NewClient sets both. In place of round_robin
// rollcall_round_robin may stand, which is the same, and says which service has gone when its last instance has.
//
// Channels with the same connection settings share one client of Consul, and those that ask the same share one blocking
// query. Both stay warm for 30 s after the last channel has been closed or gone idle.
//
// gRPC writes the target as it is to its own log where that is turned up. Keep a token out of it with CONSUL_HTTP_TOKEN.
package consulscheme

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/grpcx"
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
	c, q, err := parse(t)
	if err != nil {
		return nil, err
	}
	reg, release, err := clients.acquire(c)
	if err != nil {
		return nil, fmt.Errorf("rollcall: target: %w", err)
	}
	r, err := grpcx.NewBuilder(reg, grpcx.ResolverConfig{}).Build(resolver.Target{URL: targetOf(q)}, cc, o)
	if err != nil {
		release()
		return nil, err
	}
	return &channel{Resolver: r, release: release}, nil
}

// targetOf is q in the form that package grpcx takes.
func targetOf(q registry.Query) url.URL {
	parameters := url.Values{"tag": q.Tags, "any-status": {strconv.FormatBool(q.AnyStatus)}}
	return url.URL{Scheme: grpcx.Scheme, Path: "/" + q.Service, RawQuery: parameters.Encode()}
}

// channel is the resolver of one channel, which holds on to a shared client.
type channel struct {
	resolver.Resolver
	release func()
}

// Close implements [resolver.Resolver].
func (c *channel) Close() {
	c.Resolver.Close()
	c.release()
}

// parse reads a target. Its error names every part that cannot be used, and no secret.
func parse(t resolver.Target) (consul.Config, registry.Query, error) {
	c := consul.Config{Address: t.URL.Host, Username: t.URL.User.Username()}
	c.Password, _ = t.URL.User.Password()
	q := registry.Query{Service: t.Endpoint()}

	p := urlparam.Parse(t.URL.RawQuery)
	var tag string
	healthy, maxBackoff := true, time.Duration(0)
	p.String("tag", &tag)
	p.Bool("healthy", &healthy)
	p.Duration("wait", &c.Wait)
	p.Duration("timeout", &c.Timeout)
	p.Duration("max-backoff", &maxBackoff)
	p.String("near", &c.Near)
	p.Int("limit", &c.Limit)
	p.String("token", &c.Token)
	p.String("dc", &c.Datacenter)
	p.Bool("allow-stale", &c.Stale)
	p.Bool("require-consistent", &c.Consistent)
	p.Bool("insecure", &c.TLS.InsecureSkipVerify)

	if tag != "" {
		q.Tags = []string{tag}
	}
	q.AnyStatus = !healthy
	if c.Limit > 0 && c.Near == "" {
		c.Near = "_agent"
	}
	if maxBackoff > 0 {
		c.Options.BackoffMax = maxBackoff
		c.Options.BackoffMin = min(maxBackoff, registry.DefaultBackoffMin)
	}
	errs := []error{p.Err(), q.Validate()}
	refuse := func(part, why string) {
		errs = append(errs, fmt.Errorf("%w: %s %s", registry.ErrInvalid, part, why))
	}
	if maxBackoff < 0 {
		refuse(`URL parameter "max-backoff":`, fmt.Sprintf("%v is negative", maxBackoff))
	}
	if t.URL.Host == "" {
		refuse("host", "is required: consul://host:port/SERVICE")
	}
	if t.URL.Fragment != "" {
		refuse(fmt.Sprintf("fragment %q", t.URL.Fragment), "has no meaning here")
	}
	if err := errors.Join(errs...); err != nil {
		return c, q, fmt.Errorf("rollcall: target: %w", err)
	}
	return c, q, nil
}

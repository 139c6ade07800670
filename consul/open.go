package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// New returns a client of the agent that c names. It does not block and sends nothing: whether there is an agent shows in
// the first call that needs it. It reads the files that c and the environment name. The caller closes the result.
//
// The error wraps [registry.ErrInvalid], and names each field that cannot be used with its value, but no secret.
func New(c Config) (*registry.Registry, error) {
	d, err := newDriver(c)
	if err != nil {
		return nil, err
	}
	return registry.New(d, c.Options), nil
}

func newDriver(c Config) (*driver, error) { return dialWith(newDialer(), c) }

func dialWith(dialer *net.Dialer, c Config) (*driver, error) {
	s, places, common, err := resolve(c)
	if err != nil {
		return nil, err
	}
	certs, err := readCertificates(common.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("%w: consul: TLS: %w", registry.ErrInvalid, err)
	}
	if len(places) > 1 {
		dialer.Timeout = dialTimeoutOfSeveral
	}
	var all []*agent
	for _, place := range places {
		a, err := connect(place, common, certs, dialer)
		if err != nil {
			for _, a := range all {
				a.end()
			}
			return nil, err
		}
		all = append(all, a)
	}
	s.location = all[0].location
	return &driver{client: all[0].client, settings: s, agent: all[0], agents: newAgents(all), marks: newMarks(), tags: &tags{}, rate: newRate(s.Rate)}, nil
}

// Open is [New] by URL, for [registry.Openers]:
//
//	consul://[user:password@]host:port,host2:port/?parameter=value&…
//
// The parameters are in the table above; without a host it is the agent that New uses. An IPv6 address among several hosts, and
// a Unix socket, has to be an address parameter, as the syntax of URLs has it. It does not block, and ctx does not
// matter. The caller closes the result. The error wraps [registry.ErrInvalid], and names each part of u and each
// parameter that is unknown or cannot be used, but no secret.
func Open(_ context.Context, u *url.URL) (*registry.Registry, error) {
	c, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	return New(c)
}

func parseURL(u *url.URL) (Config, error) {
	c := Config{Username: u.User.Username()}
	c.Password, _ = u.User.Password()
	p := urlparam.Parse(u.RawQuery)
	var addresses []string
	if u.Host != "" {
		addresses = append(addresses, u.Host)
	}
	p.Strings("address", &addresses)
	c.Address = strings.Join(addresses, ",")
	p.String("token", &c.Token)
	p.String("token-file", &c.TokenFile)
	p.String("dc", &c.Datacenter)
	p.String("near", &c.Near)
	p.Int("limit", &c.Limit)
	p.String("filter", &c.Filter)
	p.Bool("connect", &c.Connect)
	p.Int("rate", &c.Rate)
	var stale string
	p.String("stale", &stale)
	p.Bool("consistent", &c.Consistent)
	p.Duration("wait", &c.Wait)
	p.Duration("timeout", &c.Timeout)
	p.Duration("ttl", &c.TTL)
	p.Duration("deregister-after", &c.DeregisterAfter)
	p.String("check", &c.Checks.Kinds)
	p.Duration("check-interval", &c.Checks.Interval)
	p.Duration("check-timeout", &c.Checks.Timeout)
	p.Int("check-successes", &c.Checks.SuccessBeforePassing)
	p.Int("check-failures", &c.Checks.FailuresBeforeCritical)
	p.Bool("check-tls", &c.Checks.TLS)
	p.Bool("check-insecure", &c.Checks.InsecureSkipVerify)
	p.String("check-grpc-service", &c.Checks.GRPCService)
	p.String("check-http-path", &c.Checks.HTTPPath)
	p.String("check-grpc-endpoint", &c.Checks.GRPCEndpoint)
	p.String("check-http-endpoint", &c.Checks.HTTPEndpoint)
	p.String("check-tcp-endpoint", &c.Checks.TCPEndpoint)
	p.Int("warning-weight", &c.WarningWeight)
	p.String("format", &c.Format)
	p.Bool("sidecar", &c.Sidecar)
	p.Int("sidecar-port", &c.SidecarPort)
	p.Bool("connect-native", &c.ConnectNative)
	p.String("meta", &c.Meta)
	p.Bool("enable-tag-override", &c.EnableTagOverride)
	p.String("failover", &c.Failover)
	p.String("peer", &c.Peer)
	p.String("namespace", &c.Namespace)
	p.String("partition", &c.Partition)
	p.String("ca-file", &c.TLS.CAFile)
	p.String("ca-path", &c.TLS.CAPath)
	p.String("cert-file", &c.TLS.CertFile)
	p.String("key-file", &c.TLS.KeyFile)
	p.String("server-name", &c.TLS.ServerName)
	p.Bool("insecure", &c.TLS.InsecureSkipVerify)
	p.Options(&c.Options)
	var tls bool
	p.Bool("tls", &tls)
	if u.Query().Has("tls") {
		c.Scheme = map[bool]string{true: "https", false: "http"}[tls]
	}

	errs := []error{p.Err()}
	refuse := func(part, why string) {
		errs = append(errs, fmt.Errorf("%w: URL: %s %s", registry.ErrInvalid, part, why))
	}
	if yes, err := strconv.ParseBool(stale); err == nil {
		c.Stale = yes
	} else if c.MaxStale, err = time.ParseDuration(stale); stale != "" && (err != nil || c.MaxStale <= 0) {
		refuse(fmt.Sprintf("parameter \"stale\": %q", stale), "is neither true nor false nor a duration such as 10s")
	}
	if u.Opaque != "" {
		refuse("the host", "must stand after two slashes: consul://host:port")
	}
	if u.Path != "" && u.Path != "/" {
		refuse(fmt.Sprintf("path %q", u.Path), "has no meaning here")
	}
	if u.Fragment != "" {
		refuse(fmt.Sprintf("fragment %q", u.Fragment), "has no meaning here")
	}
	if u.User != nil && c.Username == "" {
		refuse("user", "is empty")
	}
	return c, errors.Join(errs...)
}

package consul

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// New returns a Registry on the agent that c names. It does not block and sends nothing: a missing agent shows in the first call that
// needs one. It reads the files that c and the environment name. The caller closes the result.
//
// The error is a *[registry.Error] that wraps [registry.ErrInvalid]. It names each field that cannot be used with its value, but no
// secret.
func New(c Config) (*registry.Registry, error) {
	d, err := NewDriver(c)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(d, c.options())
	if err != nil {
		d.Close()
		return nil, openError(err)
	}
	return r, nil
}

// NewDriver returns the driver that New uses, for programs that wrap it before they pass it to [registry.New] with c.Options. Apart from
// that it does the same as New. The Registry closes the driver.
func NewDriver(c Config) (registry.Driver, error) {
	d, err := newDriver(c)
	if err != nil {
		return nil, openError(err)
	}
	return d.withFailover(), nil
}

// options returns Options with Rate in its place.
func (c Config) options() registry.Options {
	o := c.Options
	o.Rate = cmp.Or(o.Rate, c.Rate)
	return o
}

func openError(err error) error { return &registry.Error{Op: "open", Err: err} }

// Open is [New] by URL, for [registry.Openers]:
//
//	consul://[user:password@]host:port,host2:port/?parameter=value&…
//
// The parameters are in the table above. Without a host, it is the agent that New uses. An IPv6 address among several hosts, and a Unix
// socket, must be an address parameter: the syntax of URLs does not allow them as hosts. Open does not block and makes no use of ctx. The
// caller closes the result.
//
// The error is a *[registry.Error] that wraps [registry.ErrInvalid]. It names each part of u and each parameter that is unknown or cannot
// be used, but no secret.
func Open(_ context.Context, u *url.URL) (*registry.Registry, error) {
	c, err := parseURL(u)
	if err != nil {
		return nil, openError(err)
	}
	r, err := New(c)
	return r, urlparam.Conceal(u, err, "token")
}

// ParseURL returns the Config that [Open] makes of u, for programs that show or change it before they pass it to New. It neither looks at the
// environment nor checks whether the fields can be used: [Config.Validate] does that.
//
// The errors are the same as from Open. They show no secret.
func ParseURL(u *url.URL) (Config, error) {
	c, err := parseURL(u)
	if err != nil {
		return Config{}, urlparam.Conceal(u, openError(err), "token")
	}
	return c, nil
}

func parseURL(u *url.URL) (Config, error) {
	if err := urlparam.Rest(u); err != nil {
		return Config{}, err
	}
	user, password, userErr := urlparam.User(u)
	c := Config{Username: registry.NewSecret(user), Password: registry.NewSecret(password)}
	p := urlparam.Parse(u.RawQuery)
	if u.Host != "" {
		c.Addresses = strings.Split(u.Host, ",")
	}
	p.Strings("address", &c.Addresses) // for what cannot be a host
	p.Secret("token", &c.Token)
	p.String("token-file", &c.TokenFile)
	p.String("dc", &c.Datacenter)
	p.String("near", &c.Near)
	p.IntOrOff("limit", &c.Limit)
	p.String("filter", &c.Filter)
	p.Bool("connect", &c.Connect)
	var stale string
	p.String("stale", &stale)
	p.Bool("consistent", &c.Consistent)
	p.String("value-prefix", &c.ValuePrefix)
	p.Duration("wait", &c.Wait)
	p.Duration("timeout", &c.Timeout)
	p.Duration("ttl", &c.TTL)
	p.Duration("deregister-after", &c.DeregisterAfter)
	p.List("check", &c.Checks.Kinds)
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
	p.Pairs("meta", &c.Meta)
	p.Bool("enable-tag-override", &c.EnableTagOverride)
	p.List("failover", &c.Failover)
	p.String("peer", &c.Peer)
	p.String("namespace", &c.Namespace)
	p.String("partition", &c.Partition)
	p.TLS((*tlsfiles.Settings)(&c.TLS))
	p.Options(&c.Options)
	if u.Query().Has("tls") && !c.TLS.Enable {
		c.Scheme = "http" // also if the environment says otherwise
	}

	if yes, err := urlparam.ParseBool(stale); err == nil {
		c.Stale = yes
	} else if c.MaxStale, err = time.ParseDuration(stale); stale != "" && (err != nil || c.MaxStale <= 0) {
		p.Refuse("stale", stale, "is neither true nor false nor a duration such as 10s")
	}
	errs := []error{p.Err(), checkPath(u), userErr}
	if u.Opaque != "" {
		errs = append(errs, fmt.Errorf("%w: URL: the host must follow two slashes: consul://host:port", registry.ErrInvalid))
	}
	return c, oneline.Join(errs...)
}

// checkPath refuses a path, and says which parameter takes the path of a proxy in front of Consul.
func checkPath(u *url.URL) error {
	return urlparam.Path(u, fmt.Sprintf("has no meaning here; if a proxy in front of Consul has that path, its address is a parameter: ?address=http://%s%s",
		u.Host, u.EscapedPath()))
}

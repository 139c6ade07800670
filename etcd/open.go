package etcd

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// New returns a Registry on the etcd that c names. It does not block and sends nothing: a missing etcd shows in the first call that
// needs one. It reads the files that c names. The caller closes the result.
//
// The error is a *[registry.Error] that wraps [registry.ErrInvalid]. It names each field that cannot be used with its value, but no
// secret.
func New(c Config) (*registry.Registry, error) {
	d, err := NewDriver(c)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(d, c.Options)
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
	return d, nil
}

func openError(err error) error { return &registry.Error{Op: "open", Err: err} }

func newDriver(c Config, o ...grpc.DialOption) (*driver, error) {
	s, err := resolve(c)
	if err != nil {
		return nil, err
	}
	connection, err := conn.New(s.connection(), o...)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd: %s", registry.ErrInvalid, s.scrub(err.Error()))
	}
	return driverOn(connection, s), nil
}

// Open is [New] by URL, for [registry.Openers]:
//
//	etcd://[user:password@]host:2379,host2:2379/?parameter=value&…
//
// The parameters are in the table above. Without a host, it is the etcd that New uses. An IPv6 address among several hosts must be an
// endpoint parameter: the syntax of URLs does not allow it as a host. Open does not block and makes no use of ctx. The caller closes the
// result.
//
// The error is a *[registry.Error] that wraps [registry.ErrInvalid]. It names each part of u and each parameter that is unknown or cannot
// be used, but no secret.
func Open(_ context.Context, u *url.URL) (*registry.Registry, error) {
	c, err := parseURL(u)
	if err != nil {
		return nil, openError(err)
	}
	r, err := New(c)
	return r, urlparam.Conceal(u, err)
}

// ParseURL returns the Config that [Open] makes of u, for programs that show or change it before they pass it to New. It does not check
// whether the fields can be used: [Config.Validate] does that.
//
// The errors are the same as from Open. They show no secret.
func ParseURL(u *url.URL) (Config, error) {
	c, err := parseURL(u)
	if err != nil {
		return Config{}, urlparam.Conceal(u, openError(err))
	}
	return c, nil
}

func parseURL(u *url.URL) (Config, error) {
	if err := urlparam.Rest(u); err != nil {
		return Config{}, err
	}
	user, password, userErr := urlparam.User(u)
	c := Config{Username: user, Password: registry.NewSecret(password)}
	if u.Host != "" {
		c.Endpoints = strings.Split(u.Host, ",")
	}
	p := urlparam.Parse(u.RawQuery)
	p.Strings("endpoint", &c.Endpoints) // for what cannot be a host
	p.String("format", &c.Format)
	p.String("prefix", &c.Prefix)
	p.Duration("dial-timeout", &c.DialTimeout)
	p.Duration("timeout", &c.Timeout)
	p.DurationOrOff("keepalive-time", &c.KeepAliveTime)
	p.Duration("keepalive-timeout", &c.KeepAliveTimeout)
	p.Duration("ttl", &c.TTL)
	p.TLS((*tlsfiles.Settings)(&c.TLS))
	p.Options(&c.Options)

	errs := []error{p.Err(), userErr, urlparam.Path(u, "has no meaning here; the prefix of the keys is a parameter")}
	if u.Opaque != "" {
		errs = append(errs, fmt.Errorf("%w: URL: the host must follow two slashes: etcd://host:port", registry.ErrInvalid))
	}
	if u.Query().Has("tls") && !c.TLS.Enable && c.TLS != (TLS{}) {
		errs = append(errs, fmt.Errorf("%w: URL parameter \"tls\" is false, and other parameters turn TLS on", registry.ErrInvalid))
	}
	return c, oneline.Join(errs...)
}

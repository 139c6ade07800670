package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// New returns a client of the etcd that c names. It does not block and sends nothing: whether there is an etcd shows in
// the first call that needs it. It reads the files that c names. The caller closes the result.
//
// The error wraps [registry.ErrInvalid], and names each field that cannot be used with its value, but no secret.
func New(c Config) (*registry.Registry, error) {
	d, err := newDriver(c)
	if err != nil {
		return nil, err
	}
	return registry.New(d, c.Options), nil
}

func newDriver(c Config, o ...grpc.DialOption) (*driver, error) {
	s, err := resolve(c)
	if err != nil {
		return nil, err
	}
	conn, err := dial(s, o...)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd: %s", registry.ErrInvalid, s.scrub(err.Error()))
	}
	return driverOn(conn, s), nil
}

// Open is [New] by URL, for [registry.Openers]:
//
//	etcd://[user:password@]host:2379,host2:2379/?parameter=value&…
//
// The parameters are in the table above; without a host it is the etcd that New uses. An IPv6 address among several hosts
// has to be an endpoint parameter, as the syntax of URLs has it. It does not block, and ctx does not
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
	if u.Host != "" {
		c.Endpoints = strings.Split(u.Host, ",")
	}
	p := urlparam.Parse(u.RawQuery)
	p.Strings("endpoint", &c.Endpoints) // a URL can have no IPv6 address among several hosts
	p.String("format", &c.Format)
	p.String("prefix", &c.Prefix)
	p.Duration("dial-timeout", &c.DialTimeout)
	p.Duration("timeout", &c.Timeout)
	p.Duration("keepalive-time", &c.KeepAliveTime)
	p.Duration("keepalive-timeout", &c.KeepAliveTimeout)
	p.Duration("ttl", &c.TTL)
	p.Bool("tls", &c.TLS.Enable)
	p.String("ca-file", &c.TLS.CAFile)
	p.String("cert-file", &c.TLS.CertFile)
	p.String("key-file", &c.TLS.KeyFile)
	p.String("server-name", &c.TLS.ServerName)
	p.Bool("insecure", &c.TLS.InsecureSkipVerify)
	p.Options(&c.Options)

	errs := []error{p.Err()}
	refuse := func(part, why string) {
		errs = append(errs, fmt.Errorf("%w: URL: %s %s", registry.ErrInvalid, part, why))
	}
	if u.Opaque != "" {
		refuse("the host", "must stand after two slashes: etcd://host:port")
	}
	if u.Path != "" && u.Path != "/" {
		refuse(fmt.Sprintf("path %q", u.Path), "has no meaning here; the prefix of the keys is a parameter")
	}
	if u.Fragment != "" {
		refuse(fmt.Sprintf("fragment %q", u.Fragment), "has no meaning here")
	}
	if u.User != nil && c.Username == "" {
		refuse("user", "is empty")
	}
	if u.Query().Has("tls") && !c.TLS.Enable && c.TLS != (TLS{}) {
		refuse(`parameter "tls"`, "is false, and other parameters ask for TLS")
	}
	return c, errors.Join(errs...)
}

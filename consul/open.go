package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

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
	transport, end := newTransport(dialer)
	s, client, err := resolve(c, transport)
	if err != nil {
		end()
		return nil, err
	}
	return &driver{client: client, settings: s, end: end}, nil
}

// Open is [New] by URL, for [registry.Openers]:
//
//	consul://[user:password@]host:port/?parameter=value&…
//
// The parameters are in the table above; without a host it is the agent that New uses. It does not block, and ctx does not
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
	c := Config{Address: u.Host, Username: u.User.Username()}
	c.Password, _ = u.User.Password()
	p := urlparam.Parse(u.RawQuery)
	p.String("token", &c.Token)
	p.String("dc", &c.Datacenter)
	p.String("near", &c.Near)
	p.Int("limit", &c.Limit)
	p.Bool("stale", &c.Stale)
	p.Bool("consistent", &c.Consistent)
	p.Duration("wait", &c.Wait)
	p.Duration("timeout", &c.Timeout)
	p.Duration("ttl", &c.TTL)
	p.Duration("deregister-after", &c.DeregisterAfter)
	p.String("ca-file", &c.TLS.CAFile)
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

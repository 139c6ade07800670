package memory

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// Open returns a new client of the store that u names, memory://name?ttl=15s&cache-dir=DIR&linger=30s, for
// [registry.Openers]. All clients of one name in this process share a store; memory:// is the one with the empty name. It
// does not block, and ctx does not matter. The caller closes the result. For the faults of a store, see [Named].
//
// The parameters, all optional: ttl as in [Config], cache-dir and linger as in [registry.Options]. The error wraps
// [registry.ErrInvalid] and names each part of u and each parameter that has no meaning here, but no password.
func Open(_ context.Context, u *url.URL) (*registry.Registry, error) {
	c, err := parse(u)
	if err != nil {
		return nil, err
	}
	return newRegistry(namedStore(u.Hostname()), c).Registry, nil
}

func parse(u *url.URL) (Config, error) {
	var c Config
	p := urlparam.Parse(u.RawQuery)
	p.Duration("ttl", &c.TTL)
	p.Options(&c.Options)
	errs := []error{checkParts(u), p.Err()}
	if p.Err() == nil && u.Query().Has("ttl") && c.TTL < minTTL {
		errs = append(errs, fmt.Errorf("%w: URL parameter %q: %v is less than %v", registry.ErrInvalid, "ttl", c.TTL, minTTL))
	}
	return c, errors.Join(append(errs, c.Options.Validate())...)
}

// checkParts refuses what belongs in the URL of a backend with a server.
func checkParts(u *url.URL) error {
	var errs []error
	refuse := func(part, why string) {
		errs = append(errs, fmt.Errorf("%w: URL: %s", registry.ErrInvalid, part+why))
	}
	if u.Opaque != "" {
		refuse("", "the name must stand after two slashes: memory://name")
	}
	if u.User != nil {
		refuse("user", ": a store in this process has no credentials")
	}
	if u.Port() != "" {
		refuse(fmt.Sprintf("port %q", u.Port()), ": a store in this process has none")
	}
	if u.Path != "" && u.Path != "/" {
		refuse(fmt.Sprintf("path %q", u.Path), ": a store in this process has none; the name is memory://name")
	}
	if u.Fragment != "" {
		refuse(fmt.Sprintf("fragment %q", u.Fragment), ": it has no meaning here")
	}
	return errors.Join(errs...)
}

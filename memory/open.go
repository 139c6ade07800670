package memory

import (
	"context"
	"fmt"
	"net/url"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// Open returns a new client of the store that u names, such as memory://name?ttl=15s&linger=30s, for [registry.Openers]. All clients of
// one name in this process share a store; memory:// has the empty name. Open does not block and makes no use of ctx. The caller closes
// the result. For the faults of a store, see [Named].
//
// The parameters, all optional: ttl as in [Config], and cache-dir, linger, outage-grace, keep-on-close, close-timeout,
// backoff-min, backoff-max, burst, spacing, spacing-per-instance and rate as in [registry.Options]. The error wraps
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
		errs = append(errs, fmt.Errorf("%w: URL parameter %q: %v is below %v", registry.ErrInvalid, "ttl", c.TTL, minTTL))
	}
	return c, oneline.Join(append(errs, c.Options.Validate())...)
}

// checkParts returns an error for parts of u that only a backend with a server has.
func checkParts(u *url.URL) error {
	if err := urlparam.Rest(u); err != nil {
		return err
	}
	errs := []error{urlparam.Path(u, ": a store in this process has none; the name is memory://name")}
	refuse := func(part, why string) {
		errs = append(errs, fmt.Errorf("%w: URL: %s", registry.ErrInvalid, part+why))
	}
	if u.Opaque != "" {
		refuse("", "the name must follow two slashes: memory://name")
	}
	if u.User != nil {
		refuse("user", ": a store in this process has no credentials")
	}
	if u.Port() != "" {
		refuse(fmt.Sprintf("port %q", u.Port()), ": a store in this process has none")
	}
	return oneline.Join(errs...)
}

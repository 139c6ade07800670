package grpcx

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// parseTarget reads SCHEME:///SERVICE?tag=…&version=…&meta.KEY=…&any-status=…. Its error names every part that cannot be
// used: a channel with such a target can never work.
func parseTarget(t resolver.Target) (registry.Query, error) {
	q := registry.Query{Service: t.Endpoint()}
	p := urlparam.Parse(t.URL.RawQuery)
	p.Strings("tag", &q.Tags)
	p.String("version", &q.Version)
	p.Prefixed("meta.", &q.Metadata)
	p.Bool("any-status", &q.AnyStatus)
	errs := []error{p.Err(), q.Validate()}
	if t.URL.Host != "" || t.URL.User != nil {
		errs = append(errs, fmt.Errorf("%w: target: a host has no meaning here; the form is %s:///%s, with three slashes",
			registry.ErrInvalid, t.URL.Scheme, "SERVICE?parameter=value"))
	}
	if t.URL.Fragment != "" {
		errs = append(errs, fmt.Errorf("%w: target: fragment %q has no meaning here", registry.ErrInvalid, t.URL.Fragment))
	}
	if err := errors.Join(errs...); err != nil {
		return q, fmt.Errorf("rollcall: %w", err)
	}
	return q, nil
}

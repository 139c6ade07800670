package grpcx

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// target is what a channel asks for.
type target struct {
	query    registry.Query // what is watched
	all      bool           // it watches all instances, to know how many of them pass
	endpoint string         // of the instances; "" is their address
	config   ResolverConfig
	health   *string // the service that servers are asked about; nil where they are not
	policy   string  // the name of the balancing policy; "" is the default
}

// parseTarget reads SCHEME:///SERVICE?parameter=value over c. Its error names every part that cannot be used: a channel
// with such a target can never work.
func parseTarget(t resolver.Target, c ResolverConfig) (*target, error) {
	to := &target{query: registry.Query{Service: t.Endpoint()}, config: c.withDefaults()}
	p := urlparam.Parse(t.URL.RawQuery)
	p.Strings("tag", &to.query.Tags)
	p.String("version", &to.query.Version)
	p.Prefixed("meta.", &to.query.Metadata)
	p.Bool("any-status", &to.query.AnyStatus)
	p.String("endpoint", &to.endpoint)
	p.Int("subset", &to.config.Subset)
	p.Duration("empty-hold", &to.config.EmptyHold)
	var threshold, health string
	p.String("panic-threshold", &threshold)
	p.String("health", &health)
	p.String("policy", &to.policy)
	if t.URL.Query().Has("health") {
		to.health = &health
	}
	errs := []error{p.Err(), to.query.Validate()}
	if threshold != "" {
		share, err := strconv.ParseFloat(threshold, 64)
		if err != nil || !(share >= 0) {
			errs = append(errs, fmt.Errorf("%w: URL parameter \"panic-threshold\": %q is not a share from 0, which is never, to 1", registry.ErrInvalid, threshold))
		}
		to.config.PanicThreshold = share
	}
	if to.policy != "" && balancer.Get(to.policy) == nil {
		errs = append(errs, fmt.Errorf("%w: URL parameter \"policy\": no balancing policy %q is registered; is its package imported?", registry.ErrInvalid, to.policy))
	}
	if to.config.EmptyHold < 0 {
		errs = append(errs, fmt.Errorf("%w: URL parameter \"empty-hold\": %v is negative; 0 is not at all", registry.ErrInvalid, to.config.EmptyHold))
	}
	errs = append(errs, to.config.check())
	if t.URL.Host != "" || t.URL.User != nil {
		errs = append(errs, fmt.Errorf("%w: target: a host has no meaning here; the form is %s:///%s, with three slashes",
			registry.ErrInvalid, t.URL.Scheme, "SERVICE?parameter=value"))
	}
	if t.URL.Fragment != "" {
		errs = append(errs, fmt.Errorf("%w: target: fragment %q has no meaning here", registry.ErrInvalid, t.URL.Fragment))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("rollcall: %w", err)
	}
	return to, nil
}

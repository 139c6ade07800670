package grpcx

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// target is a parsed target of a channel.
type target struct {
	choose.Rules

	health *string  // the service for health checks; nil means no health checks
	policy string   // the name of the balancing policy; "" means the default
	retry  []string // methods whose calls may be repeated

	configKey string // the key of the service config in the registry; "" means none
}

// parseTarget parses SCHEME:///SERVICE?parameter=value. The parameters override c. Its error names every part that cannot be used: a
// channel with such a target can never work.
func parseTarget(t resolver.Target, c ResolverConfig) (*target, error) {
	to := &target{Rules: choose.Rules{Query: registry.Query{Service: t.Endpoint()}, Config: c.shared().WithDefaults()}}
	p := urlparam.Parse(t.URL.RawQuery)
	p.Strings("tag", &to.Query.Tags)
	p.String("version", &to.Query.Version)
	p.Prefixed(choose.MetaPrefix, &to.Query.Metadata)
	p.Bool("any-status", &to.Query.AnyStatus)
	p.String("endpoint", &to.Endpoint)
	p.Int("subset", &to.Subset)
	var grace, threshold, health string
	pattern := c.ServiceConfigKey
	p.String("config", &pattern)
	p.String("empty-grace", &grace)
	p.String("panic-threshold", &threshold)
	p.String("health", &health)
	p.String("policy", &to.policy)
	p.Strings("retry", &to.retry)
	p.String("tls-name", &to.TLSName)
	if t.URL.Query().Has("health") {
		to.health = &health
	}
	errs := []error{p.Err(), to.Query.Validate()}
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{registry.ErrInvalid}, args...)...))
	}
	if threshold != "" {
		share, err := parseOrOff(threshold, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
		if err != nil || !(share >= 0) { // also refuses NaN
			refuse(`URL parameter "panic-threshold": %q is not a share from 0, which means never, to 1`, threshold)
		}
		to.PanicThreshold = share
	}
	if grace != "" {
		d, err := parseOrOff(grace, time.ParseDuration)
		if err != nil || d < 0 {
			refuse(`URL parameter "empty-grace": %q is not a duration such as 30s; 0 and off turn it off`, grace)
		}
		to.EmptyGrace = d
	}
	if pattern == "off" {
		pattern = ""
	}
	key, err := choose.ConfigKey(pattern, to.Query.Service)
	if err != nil && to.Query.Validate() == nil {
		refuse("ServiceConfigKey (config): %s", strings.TrimPrefix(err.Error(), registry.ErrInvalid.Error()+": "))
	}
	to.configKey = key
	if !choose.CheckTLSName(to.TLSName) {
		refuse(`URL parameter "tls-name": %q is neither host nor meta.KEY`, to.TLSName)
	}
	if to.policy != "" && balancer.Get(to.policy) == nil {
		refuse(`URL parameter "policy": no balancing policy %q is registered; is its package imported?`, to.policy)
	}
	errs = append(errs, to.Check(parameterOf))
	if t.URL.Host != "" || t.URL.User != nil { // not shown, since it may contain a secret
		refuse("target: a host has no meaning here; the form is %s:///SERVICE?parameter=value, with three slashes", t.URL.Scheme)
	}
	if t.URL.Fragment != "" {
		refuse("target: fragment %q has no meaning here", t.URL.Fragment)
	}
	if err := oneline.Join(errs...); err != nil {
		return nil, err
	}
	return to, nil
}

// parseOrOff returns the zero value for "off", and parses any other text.
func parseOrOff[T any](text string, parse func(string) (T, error)) (value T, err error) {
	if text == "off" {
		return value, nil
	}
	return parse(text)
}

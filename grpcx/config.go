package grpcx

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// ResolverConfig tunes [NewBuilder] and, through [WithResolverConfig], [NewClient]. The zero value works. What a target says
// goes before it.
type ResolverConfig struct {
	// Scheme is that of the targets that the builder is for, in lower case and without '_', which gRPC would not find.
	// [NewClient] takes no other than the default: [Scheme].
	Scheme string
	// PanicThreshold is the share of a service's instances below which what the registry says of their health is not
	// believed: while fewer are passing, calls go to all of them but those that are being drained. A service whose
	// instances all fail their checks at once has more often a bad check than no instance that works; and a connection
	// that breaks is left out by gRPC itself. From 0 to 1; the panic threshold of Envoy is the model. Default: 0.5.
	// Negative: never.
	PanicThreshold float64
	// EmptyHold is how long the last instances are used when there are none any more. Default: 30 s. Negative: not at all.
	EmptyHold time.Duration
	// Subset is how many instances a channel uses where a service has more. Which ones is a matter of ClientID and of their
	// IDs: an instance that comes or goes changes one of them at most, and load is as even as dice are: of 1,000 clients that
	// use 20 of 200 instances each, 80 to 125 use any one of them (TestSubsetsAreEven). Default: 0, which is all.
	Subset int
	// ClientID tells clients apart that use a Subset. It should be the same after a restart. Default: the host name, so that
	// processes of one service that share a host should set it.
	ClientID string
	// Logger is told, once each, when a hold or a panic begins and ends. Default: slog.Default().
	Logger *slog.Logger
}

// Defaults of [ResolverConfig].
const (
	DefaultPanicThreshold = 0.5
	DefaultEmptyHold      = 30 * time.Second
)

// WithResolverConfig returns an option for [NewClient], and for nothing else: others take no notice of it.
func WithResolverConfig(c ResolverConfig) grpc.DialOption { return configOption{config: c} }

type configOption struct {
	grpc.EmptyDialOption
	config ResolverConfig
}

// configIn returns the config among opts: the last one, as with any other option.
func configIn(opts []grpc.DialOption) (c ResolverConfig) {
	for _, o := range opts {
		if o, ok := o.(configOption); ok {
			c = o.config
		}
	}
	return c
}

// withDefaults makes what is off 0, after it made what is 0 the default.
func (c ResolverConfig) withDefaults() ResolverConfig {
	c.PanicThreshold = max(cmp.Or(c.PanicThreshold, DefaultPanicThreshold), 0)
	c.EmptyHold = max(cmp.Or(c.EmptyHold, DefaultEmptyHold), 0)
	if c.ClientID == "" {
		// Without a name, all clients that have none would use the same instances: a subset is then refused.
		c.ClientID, _ = os.Hostname()
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// check names every field that cannot be used. It is for a config with its defaults.
func (c ResolverConfig) check() error {
	var errs []error
	fail := func(field string, value any, why string) {
		errs = append(errs, fmt.Errorf("%w: grpcx: %s: %v %s", registry.ErrInvalid, field, value, why))
	}
	if !(c.PanicThreshold <= 1) {
		fail("PanicThreshold (panic-threshold)", c.PanicThreshold, "is above 1, which is all instances")
	}
	if c.Subset < 0 {
		fail("Subset (subset)", c.Subset, "is negative; 0 is all")
	}
	if c.Subset > 0 && c.ClientID == "" {
		fail("ClientID", `""`, "is required beside a subset, since this host has no name")
	}
	return errors.Join(errs...)
}

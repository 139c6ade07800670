package grpcx

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/choose"
)

// ResolverConfig tunes [NewBuilder] and, through [WithResolverConfig], [NewClient]. The zero value works. The parameters of a target
// override it.
type ResolverConfig struct {
	// Scheme is the scheme of the targets. It must be in lower case and must not contain '_', since gRPC does not find other schemes.
	// [NewClient] accepts only the default, which is [Scheme].
	Scheme string
	// PanicThreshold is the share of a service's instances that must pass for their health to count. If fewer pass, calls go to all
	// instances that are neither drained nor in maintenance: if all instances fail their checks at once, the check is more often broken
	// than every instance. From 0 to 1. Default: 0.5. Negative: the health always counts.
	//
	// Connections to instances that do not pass are used, and are not made again when they break: see "Instances that do not pass" in the
	// doc of this package. The model is the panic threshold of Envoy
	// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold).
	PanicThreshold float64
	// EmptyGrace is how long a channel goes on using its connections after the last instance of the service has left the registry.
	// Default: 30 s. Negative: not at all.
	EmptyGrace time.Duration
	// Subset is how many instances a channel uses if a service has more. Default: 0, which is all.
	//
	// ClientID and the IDs of the instances decide which instances are used. If an instance comes or goes, at most one of them changes.
	// Load is statistically even: of 1,000 clients that use 20 of 200 instances each, 80 to 125 use any one of them
	// (TestSubset_SpreadsClientsEvenly). If no instance of its subset passes or is connected, a channel uses as many of the passing instances
	// outside of it.
	Subset int
	// ClientID distinguishes clients that use a Subset. It should stay the same over a restart. Processes of one service that share a
	// host should set it. Default: the host name.
	ClientID string
	// ServiceConfigKey is the key of a value in the registry from which the channel takes its gRPC service config: timeouts and retry policies
	// of methods, and the balancing policy. SERVICE in it is replaced by the name of the service, as in "rollcall/config/SERVICE". The
	// Discovery must have values, as a [registry.Registry] has. Default: none.
	//
	// The value is JSON in gRPC's form: https://github.com/grpc/grpc/blob/master/doc/service_config.md. It replaces the caller's service config
	// whole; what [NewClient] combines with that, it combines with the value too, so policy and health in the target come first. A change takes
	// effect for the next calls without a reconnect. Only a change of the balancing policy makes new connections, while the old ones are used.
	//
	//   - Until the first value arrives, the channel has its own service config. So a value that is missing, invalid or out of reach fails and
	//     delays no call. With a CacheDir, a channel that starts in an outage has the last good value.
	//   - A value that gRPC refuses is logged once and counted, and the channel keeps the service config that it has.
	//   - If the registry cannot be reached, the channel keeps the service config that it has.
	//   - If the key is deleted, the channel gets its own service config back.
	//
	// docs/config.md says what to put there, how to roll back, and which rights it needs.
	ServiceConfigKey string
	// Logger receives a line when a grace period begins and ends, and when the panic threshold takes effect and when that ends, and
	// when the service config in the registry changes or is invalid. Channels with the same query and Logger log one line together. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Defaults of [ResolverConfig].
const (
	DefaultPanicThreshold = choose.DefaultPanicThreshold
	DefaultEmptyGrace     = choose.DefaultEmptyGrace
)

// WithResolverConfig returns an option for [NewClient]. grpc.NewClient ignores it.
func WithResolverConfig(c ResolverConfig) grpc.DialOption { return configOption{config: c} }

type configOption struct {
	grpc.EmptyDialOption
	config ResolverConfig
}

// configIn returns the config in opts. The last one counts, as with any other option.
func configIn(opts []grpc.DialOption) (c ResolverConfig) {
	for _, o := range opts {
		if o, ok := o.(configOption); ok {
			c = o.config
		}
	}
	return c
}

// shared returns the settings that other clients than gRPC's have too.
func (c ResolverConfig) shared() choose.Config {
	return choose.Config{PanicThreshold: c.PanicThreshold, EmptyGrace: c.EmptyGrace, Subset: c.Subset, ClientID: c.ClientID, Logger: c.Logger}
}

// parameterOf has the parameters of a target that set a field of ResolverConfig, for errors.
var parameterOf = map[string]string{"PanicThreshold": "panic-threshold", "Subset": "subset"}

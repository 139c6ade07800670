package consul

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/document"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// Kinds of check that [Checks].Kinds names.
const (
	CheckTTL  = "ttl"  // the process sends a heartbeat within each Config.TTL
	CheckGRPC = "grpc" // the agent calls the standard health service, grpc.health.v1
	CheckHTTP = "http" // the agent gets a URL: 2xx passes, 429 warns, everything else is critical
	CheckTCP  = "tcp"  // the agent connects
)

// DefaultCheckInterval is the default of [Checks].Interval.
const DefaultCheckInterval = 10 * time.Second

// Checks say how Consul finds out whether an instance is healthy. The agent runs all checks except [CheckTTL] itself, from its own
// host. An instance has the status of its worst check. The zero value is CheckTTL alone.
type Checks struct {
	// Kinds are the kinds of check: [CheckTTL], [CheckGRPC], [CheckHTTP] and [CheckTCP]. Without CheckTTL there are no heartbeats: the
	// instance then has a check for its status that only an update writes. A check by the agent passes from its registration until the agent
	// makes it for the first time, within an Interval, also if the agent lost the entry while the check was critical. Default: CheckTTL
	// alone.
	Kinds []string `json:"kinds,omitempty" yaml:"kinds,omitempty" mapstructure:"kinds" koanf:"kinds"`
	// Interval is the time between two checks by the agent, at least 1 s. Default: 10 s, [DefaultCheckInterval].
	Interval time.Duration `json:"interval,omitempty" yaml:"interval,omitempty" mapstructure:"interval" koanf:"interval"`
	// Timeout bounds one such check. Default: Interval, but at most 10 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty" mapstructure:"timeout" koanf:"timeout"`
	// SuccessBeforePassing and FailuresBeforeCritical are the numbers of equal results in a row after which a check by the agent changes
	// to passing and to critical. Default: 0, which means 1.
	SuccessBeforePassing   int `json:"success_before_passing,omitempty" yaml:"success_before_passing,omitempty" mapstructure:"success_before_passing" koanf:"success_before_passing"`
	FailuresBeforeCritical int `json:"failures_before_critical,omitempty" yaml:"failures_before_critical,omitempty" mapstructure:"failures_before_critical" koanf:"failures_before_critical"`
	// TLS makes the agent use TLS for CheckGRPC and CheckHTTP. Default: false.
	TLS bool `json:"tls,omitempty" yaml:"tls,omitempty" mapstructure:"tls" koanf:"tls"`
	// InsecureSkipVerify makes the agent accept any certificate of the instance. Default: false.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty" mapstructure:"insecure_skip_verify" koanf:"insecure_skip_verify"`

	// GRPCService is the name of the service whose health CheckGRPC asks for. Default: "", the server as a whole.
	GRPCService string `json:"grpc_service,omitempty" yaml:"grpc_service,omitempty" mapstructure:"grpc_service" koanf:"grpc_service"`
	// HTTPPath is the path of the URL of CheckHTTP, which begins with a slash. Default: "/".
	HTTPPath string `json:"http_path,omitempty" yaml:"http_path,omitempty" mapstructure:"http_path" koanf:"http_path"`
	// GRPCEndpoint, HTTPEndpoint and TCPEndpoint are the names of the endpoints of the instance that are checked. Default: "", the
	// address of the instance.
	GRPCEndpoint string `json:"grpc_endpoint,omitempty" yaml:"grpc_endpoint,omitempty" mapstructure:"grpc_endpoint" koanf:"grpc_endpoint"`
	HTTPEndpoint string `json:"http_endpoint,omitempty" yaml:"http_endpoint,omitempty" mapstructure:"http_endpoint" koanf:"http_endpoint"`
	TCPEndpoint  string `json:"tcp_endpoint,omitempty" yaml:"tcp_endpoint,omitempty" mapstructure:"tcp_endpoint" koanf:"tcp_endpoint"`
}

// MarshalJSON writes durations as text.
func (k Checks) MarshalJSON() ([]byte, error) { return document.MarshalJSON(k) }

// UnmarshalJSON sets the fields that data names, as [Config.UnmarshalJSON] does.
func (k *Checks) UnmarshalJSON(data []byte) error { return document.UnmarshalJSON(data, k) }

// UnmarshalYAML does the same with YAML.
func (k *Checks) UnmarshalYAML(unmarshal func(any) error) error {
	return document.UnmarshalYAML(unmarshal, k)
}

// UnmarshalMapstructure does the same with a document that viper or koanf has parsed.
func (k *Checks) UnmarshalMapstructure(in any) error { return document.UnmarshalMap(in, k) }

// Validate returns an error that wraps [registry.ErrInvalid] and names every field of k that cannot be used.
func (k Checks) Validate() error {
	var errs []error
	k.check(func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) })
	return oneline.Join(errs...)
}

// maxCheckTimeout bounds the default of Checks.Timeout. It is Consul's own default.
const maxCheckTimeout = 10 * time.Second

// kinds returns Kinds, or its default.
func (k Checks) kinds() []string {
	if len(k.Kinds) == 0 {
		return []string{CheckTTL}
	}
	return k.Kinds
}

func (k Checks) has(kind string) bool { return slices.Contains(k.kinds(), kind) }

// check calls fail with the field, the value and the reason of each fault in k.
func (k Checks) check(fail func(field string, value any, why string)) {
	kinds := k.kinds()
	for i, kind := range kinds {
		switch {
		case !slices.Contains([]string{CheckTTL, CheckGRPC, CheckHTTP, CheckTCP}, kind):
			fail("Checks.Kinds (check)", fmt.Sprintf("%q", kind), "is none of ttl, grpc, http and tcp")
		case slices.Contains(kinds[:i], kind):
			fail("Checks.Kinds (check)", fmt.Sprintf("%q", kind), "is there twice")
		}
	}
	if k.Interval != 0 && k.Interval < time.Second {
		fail("Checks.Interval (check-interval)", k.Interval, "is below 1s, the least that Consul does")
	}
	if k.Timeout < 0 {
		fail("Checks.Timeout (check-timeout)", k.Timeout, "is negative")
	}
	if k.SuccessBeforePassing < 0 {
		fail("Checks.SuccessBeforePassing (check-successes)", k.SuccessBeforePassing, "is negative")
	}
	if k.FailuresBeforeCritical < 0 {
		fail("Checks.FailuresBeforeCritical (check-failures)", k.FailuresBeforeCritical, "is negative")
	}
	if k.HTTPPath != "" && !strings.HasPrefix(k.HTTPPath, "/") {
		fail("Checks.HTTPPath (check-http-path)", fmt.Sprintf("%q", k.HTTPPath), "does not begin with a slash")
	}
	// A setting for a check that is not made is a mistake that would go unnoticed.
	idle := func(set bool, field string, of ...string) {
		if set && !slices.ContainsFunc(of, k.has) {
			fail(field, "it", "is set, but Checks.Kinds (check) does not have "+strings.Join(of, " or "))
		}
	}
	agents := []string{CheckGRPC, CheckHTTP, CheckTCP}
	idle(k.Interval != 0, "Checks.Interval (check-interval)", agents...)
	idle(k.Timeout != 0, "Checks.Timeout (check-timeout)", agents...)
	idle(k.SuccessBeforePassing != 0, "Checks.SuccessBeforePassing (check-successes)", agents...)
	idle(k.FailuresBeforeCritical != 0, "Checks.FailuresBeforeCritical (check-failures)", agents...)
	idle(k.TLS, "Checks.TLS (check-tls)", CheckGRPC, CheckHTTP)
	idle(k.InsecureSkipVerify, "Checks.InsecureSkipVerify (check-insecure)", CheckGRPC, CheckHTTP)
	idle(k.GRPCService != "", "Checks.GRPCService (check-grpc-service)", CheckGRPC)
	idle(k.HTTPPath != "", "Checks.HTTPPath (check-http-path)", CheckHTTP)
	idle(k.GRPCEndpoint != "", "Checks.GRPCEndpoint (check-grpc-endpoint)", CheckGRPC)
	idle(k.HTTPEndpoint != "", "Checks.HTTPEndpoint (check-http-endpoint)", CheckHTTP)
	idle(k.TCPEndpoint != "", "Checks.TCPEndpoint (check-tcp-endpoint)", CheckTCP)
}

// standingTTL is the TTL of a check that only has the status of an instance, and gets no heartbeats: ten years, since Consul has no
// check that never expires.
const standingTTL = 10 * 365 * 24 * time.Hour

// statusCheck returns the check whose status an Update sets.
func (s *settings) statusCheck(in *registry.Instance, serviceID string) *api.AgentServiceCheck {
	c := &api.AgentServiceCheck{
		CheckID: checkID(serviceID),
		Name:    "Rollcall",
		// Otherwise a new check would be critical until the first heartbeat. If the instance begins in maintenance, it is critical
		// until Consul's maintenance mode is on.
		Status: codec.InitialStatus(in.Status),
	}
	if !s.Checks.has(CheckTTL) {
		c.Notes = "The status that the process has registered."
		c.TTL = standingTTL.String()
		return c // a status that the process itself has set is no reason to remove the entry
	}
	reap := s.DeregisterAfter
	if in.Status == registry.Critical {
		reap = max(reap, reapCritical)
	}
	c.Notes = "The process that registered the instance sends a heartbeat within each TTL."
	c.TTL = s.TTL.String()
	c.DeregisterCriticalServiceAfter = reap.String()
	return c
}

// agentChecks returns the checks that the agent makes.
func (s *settings) agentChecks(in *registry.Instance, serviceID string) (checks api.AgentServiceChecks, err error) {
	k := s.Checks
	interval := cmp.Or(k.Interval, DefaultCheckInterval)
	timeout := cmp.Or(k.Timeout, min(interval, maxCheckTimeout))
	for _, kind := range k.kinds() {
		if kind == CheckTTL {
			continue
		}
		endpoint := map[string]string{CheckGRPC: k.GRPCEndpoint, CheckHTTP: k.HTTPEndpoint, CheckTCP: k.TCPEndpoint}[kind]
		address := in.Address
		if endpoint != "" {
			if address = in.Endpoints[endpoint]; address == "" {
				return nil, invalid(fmt.Sprintf("Checks.%sEndpoint (check-%s-endpoint)", strings.ToUpper(kind), kind),
					fmt.Sprintf("%q", endpoint), fmt.Sprintf("is no endpoint of the instance %q of %s", in.ID, in.Service))
			}
		}
		c := &api.AgentServiceCheck{
			CheckID: agentCheckID(kind, serviceID), Name: "Rollcall " + kind,
			Interval: interval.String(), Timeout: timeout.String(),
			SuccessBeforePassing: k.SuccessBeforePassing, FailuresBeforeCritical: k.FailuresBeforeCritical,
			// A new instance does not wait an interval for its first check. The status check has the status that it was
			// registered with.
			Status: api.HealthPassing,
		}
		// If there is a TTL check, it removes the entry of a dead process. To remove the entry of a live process has no use: it would
		// register again at once, as passing.
		if !k.has(CheckTTL) {
			c.DeregisterCriticalServiceAfter = s.DeregisterAfter.String()
		}
		switch kind {
		case CheckGRPC:
			c.GRPC, c.GRPCUseTLS, c.TLSSkipVerify = address, k.TLS, k.InsecureSkipVerify
			if k.GRPCService != "" {
				c.GRPC += "/" + k.GRPCService
			}
		case CheckHTTP:
			scheme := "http"
			if k.TLS {
				scheme = "https"
			}
			c.HTTP, c.TLSSkipVerify = scheme+"://"+address+cmp.Or(k.HTTPPath, "/"), k.InsecureSkipVerify
		case CheckTCP:
			c.TCP = address
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// agentCheckID returns the ID of a check by the agent. The ID of the service comes last, since it may have colons in it.
func agentCheckID(kind, serviceID string) string { return "rollcall-" + kind + ":" + serviceID }

// isAgentCheck reports whether this package gives the entry a check of that ID with some configuration.
func isAgentCheck(id, serviceID string) bool {
	return slices.ContainsFunc([]string{CheckGRPC, CheckHTTP, CheckTCP}, func(kind string) bool { return id == agentCheckID(kind, serviceID) })
}

// reapCritical is the least DeregisterAfter for an instance whose own status is critical. Consul cannot tell it from one whose heartbeats have
// ceased: it would remove the instance once a minute, and the process would register it again.
const reapCritical = time.Hour

// checkID returns the ID of the TTL check. It is explicit since the ID that Consul would choose depends on the number of checks.
func checkID(serviceID string) string { return "rollcall:" + serviceID }

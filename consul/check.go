package consul

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// Kinds of check that [Checks].Kinds names.
const (
	CheckTTL  = "ttl"  // the process gives a sign of life within each Config.TTL
	CheckGRPC = "grpc" // the agent asks the standard health service, grpc.health.v1
	CheckHTTP = "http" // the agent gets a URL: 2xx passes, 429 warns, everything else is critical
	CheckTCP  = "tcp"  // the agent connects
)

// DefaultCheckInterval is [Checks].Interval where that is 0.
const DefaultCheckInterval = 10 * time.Second

// Checks say how Consul finds out how an instance does. The agent runs all but [CheckTTL] by itself, from where it is, and an
// instance is no better than the worst of its checks. The zero value is CheckTTL alone.
type Checks struct {
	// Kinds are the kinds of check, with commas between them, such as "ttl,grpc". Default: [CheckTTL]. Without that kind there are no
	// signs of life: a check that only an update writes then holds the announced status.
	Kinds string `json:"kinds,omitempty" yaml:"kinds,omitempty"`
	// Interval is the time between two checks that the agent makes, at least 1 s. Default: [DefaultCheckInterval].
	Interval time.Duration `json:"interval,omitempty" yaml:"interval,omitempty"`
	// Timeout bounds one such check. Default: Interval, and 10 s at most.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// SuccessBeforePassing and FailuresBeforeCritical are how many results in a row it takes to change to passing and to
	// critical. 0 is 1.
	SuccessBeforePassing   int `json:"success_before_passing,omitempty" yaml:"success_before_passing,omitempty"`
	FailuresBeforeCritical int `json:"failures_before_critical,omitempty" yaml:"failures_before_critical,omitempty"`
	// TLS is for servers that speak gRPC and HTTP over TLS.
	TLS bool `json:"tls,omitempty" yaml:"tls,omitempty"`
	// InsecureSkipVerify takes any certificate of theirs.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty"`

	// GRPCService is the name that CheckGRPC asks for; "" is the server as a whole.
	GRPCService string `json:"grpc_service,omitempty" yaml:"grpc_service,omitempty"`
	// HTTPPath is what CheckHTTP gets, from a slash on. Default: "/".
	HTTPPath string `json:"http_path,omitempty" yaml:"http_path,omitempty"`
	// GRPCEndpoint, HTTPEndpoint and TCPEndpoint name the endpoint of the instance that is checked; "" is its address.
	GRPCEndpoint string `json:"grpc_endpoint,omitempty" yaml:"grpc_endpoint,omitempty"`
	HTTPEndpoint string `json:"http_endpoint,omitempty" yaml:"http_endpoint,omitempty"`
	TCPEndpoint  string `json:"tcp_endpoint,omitempty" yaml:"tcp_endpoint,omitempty"`
}

// maxCheckTimeout is the default of Checks.Timeout at most, which is what Consul has.
const maxCheckTimeout = 10 * time.Second

// kinds are those of Kinds, as they stand there.
func (k Checks) kinds() []string {
	if k.Kinds == "" {
		return []string{CheckTTL}
	}
	list := strings.Split(k.Kinds, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func (k Checks) has(kind string) bool { return slices.Contains(k.kinds(), kind) }

// check reports what is wrong with k, by field, value and reason.
func (k Checks) check(fail func(field string, value any, why string)) {
	kinds := k.kinds()
	for i, kind := range kinds {
		switch {
		case !slices.Contains([]string{CheckTTL, CheckGRPC, CheckHTTP, CheckTCP}, kind):
			fail("Checks.Kinds (check)", fmt.Sprintf("%q", kind), "is none of ttl, grpc, http and tcp")
		case slices.Contains(kinds[:i], kind):
			fail("Checks.Kinds (check)", fmt.Sprintf("%q", kind), "stands there twice")
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
	// A setting for a check that is not made is a mistake that nobody would see.
	idle := func(set bool, field string, of ...string) {
		if set && !slices.ContainsFunc(of, k.has) {
			fail(field, "it", "is set, and Checks.Kinds (check) does not name "+strings.Join(of, " or "))
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

// standingTTL is that of the check which only holds the announced status, without signs of life: Consul has no check that
// never expires, and this is ten years.
const standingTTL = 10 * 365 * 24 * time.Hour

// statusCheck is the check that an Update sets.
func (s *settings) statusCheck(in *registry.Instance, serviceID string) *api.AgentServiceCheck {
	c := &api.AgentServiceCheck{
		CheckID: checkID(serviceID),
		Name:    "Rollcall",
		// Otherwise a new check would be critical until the first heartbeat. That of an instance which begins in
		// maintenance is, until the maintenance has begun.
		Status: firstStatus(in.Status),
	}
	if !s.Checks.has(CheckTTL) {
		c.Notes = "The status that the process has announced."
		c.TTL = standingTTL.String()
		return c // what the process says of itself is no reason to remove it
	}
	reap := s.DeregisterAfter
	if in.Status == registry.Critical {
		reap = max(reap, reapCritical)
	}
	c.Notes = "The process that announced the instance gives a sign of life within each TTL."
	c.TTL = s.TTL.String()
	c.DeregisterCriticalServiceAfter = reap.String()
	return c
}

// agentChecks are those that the agent makes.
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
			// Whoever announces an instance that is ready says so: nobody waits an interval for it. How it is announced
			// otherwise is for the other check.
			Status: api.HealthPassing,
		}
		// A process that is dead is removed by the TTL check, where there is one. One that lives would be back at once, as passing.
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

// agentCheckID is explicit, and has the service's ID last: that may hold colons.
func agentCheckID(kind, serviceID string) string { return "rollcall-" + kind + ":" + serviceID }

// isAgentCheck reports whether some configuration of this package gives the entry a check of that ID.
func isAgentCheck(id, serviceID string) bool {
	return slices.ContainsFunc([]string{CheckGRPC, CheckHTTP, CheckTCP}, func(kind string) bool { return id == agentCheckID(kind, serviceID) })
}

// dropChecks removes those of checks that an earlier configuration has left: the registration does not, unless it is told to
// remove an operator's maintenance too, and nobody would see to them.
func (l *lease) dropChecks(ctx context.Context, service *api.AgentServiceRegistration, checks map[string]*api.AgentCheck) error {
	for id := range checks {
		wanted := slices.ContainsFunc(service.Checks, func(c *api.AgentServiceCheck) bool { return c.CheckID == id })
		if wanted || !isAgentCheck(id, l.serviceID) {
			continue
		}
		err := l.call(ctx, "deregister check "+id, func(ctx context.Context) error {
			return l.d.client.Agent().CheckDeregisterOpts(id, l.d.agentOptions(ctx))
		})
		if err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

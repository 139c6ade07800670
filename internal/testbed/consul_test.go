package testbed

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

func (c *Consul) put(tb testing.TB, value string) {
	tb.Helper()
	if _, err := c.call(tb.Context(), http.MethodPut, "/v1/kv/k", value, nil); err != nil {
		tb.Fatal(err)
	}
}

func (c *Consul) get(ctx context.Context) (string, error) {
	value, err := c.call(ctx, http.MethodGet, "/v1/kv/k?raw", "", nil)
	if err != nil && strings.Contains(err.Error(), "404 Not Found") {
		return "", nil
	}
	return string(value), err
}

// A test first registers a service with its agent, and reads the service from the catalog.
func TestStartConsul_AcceptsRegistrations(t *testing.T) {
	t.Parallel()
	c := StartConsul(t)
	if _, err := c.call(t.Context(), http.MethodPut, "/v1/agent/service/register", `{"Name":"s"}`, nil); err != nil {
		t.Fatal(err)
	}
	services, err := c.call(t.Context(), http.MethodGet, "/v1/catalog/service/s", "", nil)
	if err != nil || !strings.Contains(string(services), c.Node()) {
		t.Errorf("the catalog has %s (%v), want the service on %s", services, err, c.Node())
	}
	ready, err := c.call(t.Context(), http.MethodGet, "/v1/kv/testbed/ready", "", nil)
	if err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Errorf("the readiness check left %s behind (%v)", ready, err)
	}
}

func TestStartConsul_AppliesOptions(t *testing.T) {
	t.Parallel()
	const token = "00000000-0000-0000-0000-00000000feed"
	c := StartConsul(t, ConsulOptions{
		Token: token,
		Config: `
			datacenter = "east"
			acl {
				enabled = true
				default_policy = "deny"
				tokens {
					initial_management = "` + token + `"
					agent = "` + token + `"
				}
			}`,
	})
	if _, err := c.call(t.Context(), http.MethodGet, "/v1/agent/self", "", nil); err == nil {
		t.Error("an agent that denies by default answers a request without a token")
	}
	self, err := c.call(t.Context(), http.MethodGet, "/v1/agent/self", "", http.Header{"X-Consul-Token": {token}})
	if err != nil || !strings.Contains(string(self), `"Datacenter":"east"`) {
		t.Errorf("the agent describes itself as %s (%v), want the datacenter east", self, err)
	}
}

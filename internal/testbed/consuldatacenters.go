package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// StartConsulDatacenters starts two clusters of one server and a client agent each, dc1 and dc2, joined by WAN. Both use
// the ACLs of dc1. It blocks until a read of either datacenter is answered in the other.
func StartConsulDatacenters(tb testing.TB) (dc1, dc2 *ConsulCluster) {
	tb.Helper()
	dc1 = StartConsulCluster(tb, ConsulClusterOptions{Servers: 1})
	dc2 = StartConsulCluster(tb, ConsulClusterOptions{Servers: 1, Datacenter: "dc2", Primary: dc1})
	dc1.until("dc2 is reached from dc1", func(ctx context.Context) error {
		return dc1.rest(ctx, http.MethodGet, "/v1/catalog/nodes?dc=dc2", nil, nil)
	})
	dc2.until("dc1 is reached from dc2", func(ctx context.Context) error {
		return dc2.rest(ctx, http.MethodGet, "/v1/catalog/nodes?dc=dc1", nil, nil)
	})
	return dc1, dc2
}

// StartConsulPeers starts two clusters of one server and a client agent each, which only a peering connects: the cluster far exports
// all of its services to the cluster near, whose name for its peer is "far". It blocks until the peering is active.
func StartConsulPeers(tb testing.TB) (near, far *ConsulCluster) {
	tb.Helper()
	near = StartConsulCluster(tb, ConsulClusterOptions{Servers: 1, Datacenter: "near"})
	far = StartConsulCluster(tb, ConsulClusterOptions{Servers: 1, Datacenter: "far"})
	far.until("all services are exported", func(ctx context.Context) error {
		return far.rest(ctx, http.MethodPut, "/v1/config", map[string]any{
			"Kind": "exported-services", "Name": "default",
			"Services": []any{map[string]any{"Name": "*", "Consumers": []any{map[string]string{"Peer": "near"}}}},
		}, nil)
	})
	var invitation struct{ PeeringToken string }
	far.until("there is a token for the peering", func(ctx context.Context) error {
		return far.rest(ctx, http.MethodPost, "/v1/peering/token", map[string]string{"PeerName": "near"}, &invitation)
	})
	near.until("the peering is established", func(ctx context.Context) error {
		return near.rest(ctx, http.MethodPost, "/v1/peering/establish",
			map[string]string{"PeerName": "far", "PeeringToken": invitation.PeeringToken}, nil)
	})
	near.until("the peering is active", func(ctx context.Context) error {
		var peering struct{ State string }
		err := near.rest(ctx, http.MethodGet, "/v1/peering/far", nil, &peering)
		if err == nil && peering.State != "ACTIVE" {
			err = fmt.Errorf("the peering is %s", peering.State)
		}
		return err
	})
	return near, far
}

// rest makes one call to the client agent with JSON both ways, and with a token that has all permissions.
func (c *ConsulCluster) rest(ctx context.Context, method, path string, question, answer any) error {
	body := []byte(nil)
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return err
		}
	}
	out, err := c.Agent.call(ctx, method, path, string(body), http.Header{"X-Consul-Token": {c.Token}})
	if err == nil && answer != nil {
		err = json.Unmarshal(out, answer)
	}
	return err
}

// until makes attempts until one succeeds.
func (c *ConsulCluster) until(what string, attempt func(context.Context) error) {
	c.tb.Helper()
	if err := retry(attempt); err != nil {
		c.tb.Fatalf("testbed: consul cluster: waited %v for this: %s: %v%s", readyTimeout, what, err, c.Servers[0].logTail())
	}
}

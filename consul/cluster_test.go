package consul

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// TestCluster runs on three servers and a client agent, with ACLs and mutual TLS.
func TestCluster(t *testing.T) {
	c := operatorOfCluster(t, testbed.StartConsulCluster(t, testbed.ConsulClusterOptions{MutualTLS: true}))
	cert, key := c.ClientCertificate()
	t.Setenv("CONSUL_CLIENT_CERT", cert)
	t.Setenv("CONSUL_CLIENT_KEY", key)
	for _, test := range []struct {
		name string
		run  func(*clusterTrial)
	}{
		{"conformance", testClusterConformance},
		{"least policy", testLeastPolicy},
		{"policy to keep tags", testPolicyToKeepTags},
		{"no client certificate", testNoClientCertificate},
		{"bad token", testBadToken},
		{"right to read is taken away", testReadDenied},
		{"token of an announcement is deleted", testAnnouncementsTokenDeleted},
		{"leader killed", testLeaderKilled},
		{"no leader", testNoLeader},
		{"servers down", testServersDown},
		{"servers stopped", testServersStopped},
		{"view not loaded", testViewNotLoaded},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.in(t)) })
	}
}

func testNoClientCertificate(c *clusterTrial) {
	c.Setenv("CONSUL_CLIENT_CERT", "")
	c.Setenv("CONSUL_CLIENT_KEY", "")
	set, err := c.as(c.Token).Lookup(within(c, patience), registry.Query{Service: "s"})
	if set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup returns %v, %v", set, err)
	}
}

func testClusterConformance(c *clusterTrial) {
	cert, key := c.ClientCertificate()
	proxy := testbed.NewTLSProxy(c, c.Agent.Addr(), cert, key)
	// The suite chooses names of services as it goes, and thus asks for all of them what the policies ask for one.
	token := c.token([]string{`service_prefix "" { policy = "write" }`, `node_prefix "" { policy = "read" }`}, "").SecretID
	registrytest.Run(c.T, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return open(t, Config{Address: "https://" + proxy.Addr(), Token: token, TLS: TLS{CAFile: c.CAFile()}})
		},
		Lose: func(t *testing.T, in registry.Instance) {
			o := new(api.QueryOptions).WithContext(context.Background())
			if err := c.operator.Agent().ServiceDeregisterOpts(serviceID(in.Service, in.ID), o); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			proxy.Refuse()
			return proxy.Heal
		},
		Calls:    func(*testing.T) int { return proxy.Requests() },
		Complete: true,
	})
}

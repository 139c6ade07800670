package consul

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// TestWatch_InACluster runs on three servers and a client agent, with ACLs and mutual TLS.
func TestWatch_InACluster(t *testing.T) {
	t.Parallel()
	c := operatorOfCluster(t, testbed.StartConsulCluster(t, testbed.ConsulClusterOptions{MutualTLS: true}))
	for _, test := range []struct {
		name string
		run  func(*clusterTrial)
	}{
		{"least policy", testLeastPolicy},
		{"policy to keep tags", testPolicyToKeepTags},
		{"no client certificate", testNoClientCertificate},
		{"bad token", testBadToken},
		{"right to read is taken away", testReadDenied},
		{"token of a registration is deleted", testRegistrationsTokenDeleted},
		{"leader killed", testLeaderKilled},
		{"no leader", testNoLeader},
		{"value without leader", testValueWithoutLeader},
		{"servers down", testServersDown},
		{"servers stopped", testServersStopped},
		{"view not loaded", testViewNotLoaded},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.in(t)) })
	}
}

func testNoClientCertificate(c *clusterTrial) {
	config := c.config(c.Token)
	config.TLS.CertFile, config.TLS.KeyFile = "", ""
	set, err := open(c, config).Lookup(watchtest.Context(c), registry.Query{Service: "s"})
	if set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup returns %v, %v", set, err)
	}
}

// The suite has a cluster of its own, so that it runs beside the tests that break one.
func TestDriver_ConformsInACluster(t *testing.T) {
	t.Parallel()
	c := operatorOfCluster(t, testbed.StartConsulCluster(t, testbed.ConsulClusterOptions{MutualTLS: true}))
	cert, key := c.ClientCertificate()
	proxy := testbed.NewTLSProxy(c, c.Agent.Addr(), cert, key)
	// The suite chooses names of services as it goes, and thus asks for all of them what the policies ask for one.
	token := c.token(policyToConform, "").SecretID
	registrytest.Run(c.T, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			return open(t, Config{Address: "https://" + proxy.Addr(), Token: registry.NewSecret(token), TLS: c.tls()})
		},
		NewDriver: func(t *testing.T) registry.Driver {
			return openDriver(t, Config{Address: "https://" + proxy.Addr(), Token: registry.NewSecret(token), TLS: c.tls()})
		},
		KeepOnClose: func(t *testing.T) *registry.Registry {
			o := registry.Options{KeepOnClose: true}
			return open(t, Config{Address: "https://" + proxy.Addr(), Token: registry.NewSecret(token), TLS: c.tls(), Options: o})
		},
		RefuseWrites: func(*testing.T) func() { return refuseWrites(proxy) },
		LoseAnswers:  func(*testing.T) func() { return loseAnswers(proxy, c.Agent.Addr()) },
		WriteUnreadable: func(t *testing.T, service, id string) (remove func()) {
			return registerUnreadable(t, c.operator, service, id)
		},
		Lose: func(t *testing.T, in registry.Instance) {
			o := new(api.QueryOptions).WithContext(context.Background())
			if err := c.operator.Agent().ServiceDeregisterOpts(codec.ServiceID(in.Service, in.ID), o); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			proxy.Refuse()
			return proxy.Heal
		},
		Calls:       func(*testing.T) int { return proxy.Requests() },
		Complete:    true,
		Values:      true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	})
}

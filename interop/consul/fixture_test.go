// Package consul_test tests package consul with other frameworks: their clients find and call what Rollcall registers, and Rollcall
// finds what they register.
package consul_test

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The frameworks keep connections and goroutines until the process ends, so these tests do not check for goroutines that are still
// running. The tests of package consul do.

// start returns an agent, and our client of it.
func start(t *testing.T) (*testbed.Consul, *registry.Registry) {
	t.Helper()
	t.Setenv(api.HTTPAddrEnvName, "")
	agent := testbed.StartConsul(t)
	d, err := consul.NewDriver(consul.Config{Address: agent.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	return agent, watchtest.NewRegistry(t, d, registry.Options{})
}

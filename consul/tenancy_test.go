package consul

import (
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// The words are those of the free edition.
func TestEnterpriseSettings(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	for want, c := range map[string]Config{
		"Namespaces are a Consul Enterprise feature": {Namespace: "team"},
		"Partitions are a Consul Enterprise feature": {Partition: "part"},
	} {
		c.Address = agent.Addr()
		r := open(t, c)
		_, err := r.Lookup(within(t, patience), registry.Query{Service: "s"})
		wantRefusal(t, err, want)
		_, err = r.Register(within(t, patience), registry.Instance{Service: "s", Address: "10.0.0.1:80"})
		wantRefusal(t, err, want)
	}
}

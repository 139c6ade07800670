package consul

import (
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The free edition of Consul refuses these settings with this text.
func TestDriver_PassesEnterpriseSettingsOn(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	for want, c := range map[string]Config{
		"Namespaces are a Consul Enterprise feature": {Namespace: "team"},
		"Partitions are a Consul Enterprise feature": {Partition: "part"},
	} {
		c.Address = agent.Addr()
		r := open(t, c)
		_, err := r.Lookup(watchtest.Context(t), registry.Query{Service: "s"})
		configtest.WantRefusal(t, err, want)
		_, err = r.Register(watchtest.Context(t), registry.Instance{Service: "s", Address: "10.0.0.1:80"})
		configtest.WantRefusal(t, err, want)
	}
}

package consul

import (
	"testing"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_KeepsDrainedInstancesDrained(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	for _, c := range []Config{{}, {WarningWeight: 50}, {Format: FormatKratos}} {
		for _, status := range []registry.Status{registry.Passing, registry.Warning} {
			c.Address = agent.Addr()
			d, err := newDriver(c)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			in := &registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Weight: registry.Drained, Status: status}
			if _, err := d.Register(t.Context(), in, nil); err != nil {
				t.Fatal(err)
			}
			var got *registry.Instance
			watchtest.Eventually(t, "the catalog has it", func() bool {
				src := d.Watch(registry.Query{Service: in.Service, AnyStatus: true})
				defer src.Close()
				set, err := src.Next(watchtest.Context(t))
				if err != nil || len(set.Instances) != 1 {
					return false
				}
				got = set.Instances[0]
				return true
			})
			if !got.Equal(in) {
				t.Errorf("with %v %v it is read as %+v", c.Format, status, got)
			}
			// DNS clients call it as rarely as Consul's weights allow.
			entry, _, err := operator.Agent().Service(codec.ServiceID(in.Service, "a"), nil)
			if err != nil || entry.Weights.Passing != 1 || entry.Weights.Warning != 0 {
				t.Errorf("its weights in Consul are %+v, %v", entry.Weights, err)
			}
		}
	}
}

package consul

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_WANAddresses(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	type addresses = map[string]api.ServiceAddress
	v4, v6, name := api.ServiceAddress{Address: "203.0.113.7", Port: 9000}, api.ServiceAddress{Address: "2001:db8::7", Port: 9000}, api.ServiceAddress{Address: "eu.example.com", Port: 443}
	for what, c := range map[string]struct {
		endpoints map[string]string
		want      addresses
	}{
		"wan":           {map[string]string{"wan": "203.0.113.7:9000"}, addresses{"wan": v4, "wan_ipv4": v4}},
		"wan of IPv6":   {map[string]string{"wan": "[2001:db8::7]:9000"}, addresses{"wan": v6, "wan_ipv6": v6}},
		"wan of a name": {map[string]string{"wan": "eu.example.com:443", "http": "10.0.0.1:81"}, addresses{"wan": name}},
		"wan_ipv4":      {map[string]string{"wan_ipv4": "203.0.113.7:9000"}, addresses{"wan": v4, "wan_ipv4": v4}},
		"both":          {map[string]string{"wan": "203.0.113.7:9000", "wan_ipv6": "[2001:db8::7]:9000"}, addresses{"wan": v4, "wan_ipv4": v4, "wan_ipv6": v6}},
	} {
		for _, format := range []string{FormatRollcall, FormatKratos} {
			t.Run(what+" "+format, func(t *testing.T) {
				r := open(t, Config{Address: agent.Addr(), Format: format})
				w := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Endpoints: c.endpoints}
				g := watchtest.Register(t, r, w)
				entry, _, err := operator.Agent().Service(codec.ServiceID(w.Service, "a"), nil)
				if err != nil {
					t.Fatal(err)
				}
				for name, a := range c.want {
					if entry.TaggedAddresses[name] != a {
						t.Errorf("%s is %v, want %v", name, entry.TaggedAddresses[name], a)
					}
				}
				want := g.Instance()
				watchtest.Watch(t, r, registry.Query{Service: w.Service}).Until("what was registered", func(p watchtest.Pair) bool {
					in := p.Find("a")
					return in != nil && in.Equal(&want)
				})
			})
		}
	}
}

package consul

import (
	"cmp"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/registry"
)

// Formats that [Config].Format names.
const (
	FormatRollcall = "rollcall"
	FormatKratos   = "kratos" // kratos v2, contrib/registry/consul
)

// registration returns the registration of in, with its checks and its part in the service mesh.
func (d *driver) registration(in *registry.Instance, serviceID, owner string) (*api.AgentServiceRegistration, error) {
	s, err := codec.Encode(d.settings.withMeta(in), codec.Form{
		ServiceID: serviceID, Owner: owner, Kratos: d.settings.format() == FormatKratos,
		WarningWeight: d.settings.WarningWeight, EnableTagOverride: d.settings.EnableTagOverride,
	})
	if err != nil {
		return nil, err
	}
	if s.Checks, err = d.settings.agentChecks(in, serviceID); err != nil {
		return nil, err
	}
	s.Check = d.settings.statusCheck(in, serviceID)
	s.Connect = d.settings.connect()
	return s, nil
}

// format returns Format, or its default.
func (c Config) format() string { return cmp.Or(c.Format, FormatRollcall) }

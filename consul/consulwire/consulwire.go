// Package consulwire provides package consul to injectors of github.com/google/wire.
package consulwire

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

// ProviderSet provides a *[registry.Registry], also as [registry.Registrar] and [registry.Discovery], from a [consul.Config], with a
// cleanup that closes it.
var ProviderSet = wire.NewSet(
	Provide,
	wire.Bind(new(registry.Registrar), new(*registry.Registry)),
	wire.Bind(new(registry.Discovery), new(*registry.Registry)),
)

// Provide is [consul.New] in the form that wire expects. The function closes the Registry.
func Provide(c consul.Config) (*registry.Registry, func(), error) {
	r, err := consul.New(c)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil
}

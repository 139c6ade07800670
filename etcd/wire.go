package etcd

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/registry"
)

// ProviderSet provides, from a [Config], a *[registry.Registry], also as [registry.Registrar] and [registry.Discovery], to an
// injector of github.com/google/wire, with a cleanup that closes it.
var ProviderSet = wire.NewSet(
	Provide,
	wire.Bind(new(registry.Registrar), new(*registry.Registry)),
	wire.Bind(new(registry.Discovery), new(*registry.Registry)),
)

// Provide is [New] in the form that wire takes: the function closes the Registry.
func Provide(c Config) (*registry.Registry, func(), error) {
	r, err := New(c)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil
}

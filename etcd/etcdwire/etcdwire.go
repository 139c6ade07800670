// Package etcdwire provides package etcd to injectors of github.com/google/wire.
package etcdwire

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/registry"
)

// ProviderSet provides a *[registry.Registry], also as [registry.Registrar] and [registry.Discovery], from a [etcd.Config], with a
// cleanup that closes it.
var ProviderSet = wire.NewSet(
	Provide,
	wire.Bind(new(registry.Registrar), new(*registry.Registry)),
	wire.Bind(new(registry.Discovery), new(*registry.Registry)),
)

// Provide is [etcd.New] in the form that wire expects. The function closes the Registry.
func Provide(c etcd.Config) (*registry.Registry, func(), error) {
	r, err := etcd.New(c)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil
}

package memory

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/registry"
)

// ProviderSet provides a *[Registry] with a store of its own, its *[registry.Registry], and that as [registry.Registrar] and
// [registry.Discovery], to an injector of github.com/google/wire, with a cleanup that closes it.
var ProviderSet = wire.NewSet(
	Provide,
	wire.FieldsOf(new(*Registry), "Registry"),
	wire.Bind(new(registry.Registrar), new(*registry.Registry)),
	wire.Bind(new(registry.Discovery), new(*registry.Registry)),
)

// Provide is [New] in the form that wire takes: the function closes the Registry.
func Provide() (*Registry, func()) {
	r := New()
	return r, func() { r.Close() }
}

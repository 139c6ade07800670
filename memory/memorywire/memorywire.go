// Package memorywire provides package memory to injectors of github.com/google/wire.
package memorywire

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// ProviderSet provides a *[memory.Registry] with a store of its own, its *[registry.Registry], and that also as [registry.Registrar]
// and [registry.Discovery], with a cleanup that closes it.
var ProviderSet = wire.NewSet(
	Provide,
	wire.FieldsOf(new(*memory.Registry), "Registry"),
	wire.Bind(new(registry.Registrar), new(*registry.Registry)),
	wire.Bind(new(registry.Discovery), new(*registry.Registry)),
)

// Provide is [memory.New] in the form that wire expects. The function closes the Registry.
func Provide() (*memory.Registry, func()) {
	r := memory.New()
	return r, func() { r.Close() }
}

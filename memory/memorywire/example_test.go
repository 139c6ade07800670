package memorywire_test

import (
	"context"
	"fmt"

	"github.com/rollcall-go/rollcall/memory/memorywire"
	"github.com/rollcall-go/rollcall/registry"
)

// Wire generates such calls from ProviderSet: see examples/wire.
func ExampleProvide() {
	reg, cleanup := memorywire.Provide()
	defer cleanup() // closes the Registry
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := reg.Lookup(ctx, registry.Query{Service: "greeter"})
	fmt.Println(err)
	// Output: rollcall: lookup greeter: context canceled
}

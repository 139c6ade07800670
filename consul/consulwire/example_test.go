package consulwire_test

import (
	"fmt"
	"log"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/consul/consulwire"
)

// Wire generates such calls from ProviderSet: see examples/wire.
func ExampleProvide() {
	reg, cleanup, err := consulwire.Provide(consul.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer cleanup() // closes the Registry
	fmt.Println(reg)
	// Output: consul 127.0.0.1:8500
}

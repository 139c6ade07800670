package etcdwire_test

import (
	"fmt"
	"log"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/etcd/etcdwire"
)

// Wire generates such calls from ProviderSet: see examples/wire.
func ExampleProvide() {
	reg, cleanup, err := etcdwire.Provide(etcd.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer cleanup() // closes the Registry
	fmt.Println(reg)
	// Output: etcd 127.0.0.1:2379 /rollcall/
}

package registry_test

import (
	"context"
	"fmt"
	"log"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// What a binary can open is written in one place of it; which of these it opens is configuration.
func ExampleOpeners() {
	openers := registry.Openers{"memory": memory.Open} // and "consul": consul.Open
	reg, err := openers.Open(context.Background(), "memory://example-openers")
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	fmt.Println(reg)

	_, err = openers.Open(context.Background(), "zookeeper://127.0.0.1")
	fmt.Println(err)
	// Output:
	// memory example-openers
	// rollcall: open: invalid: URL: scheme "zookeeper" is unknown; this program can open: memory
}

// The instance stays registered until Deregister.
func ExampleRegistry_Register() {
	reg := memory.New()
	defer reg.Close()
	ctx := context.Background()

	registration, err := reg.Register(ctx, registry.Instance{Service: "greeter", Address: "10.0.0.7:8080", Version: "1.4.0"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(registration.Instance().ID)

	set, err := reg.Lookup(ctx, registry.Query{Service: "greeter"})
	fmt.Println(len(set), err)
	fmt.Println(registration.Deregister(ctx))
	// Output:
	// greeter-10.0.0.7-8080
	// 1 <nil>
	// <nil>
}

// A loop over a watch sees the full set at once and after each change. An error says why the set beside it may be out of date.
func ExampleRegistry_Watch() {
	reg := memory.New()
	defer reg.Close()
	ctx := context.Background()
	if _, err := reg.Register(ctx, registry.Instance{Service: "greeter", Address: "10.0.0.7:8080"}); err != nil {
		log.Fatal(err)
	}

	for set, err := range reg.Watch(ctx, registry.Query{Service: "greeter"}) {
		if err != nil {
			log.Print(err) // why set may be out of date: it is the last good one, or nil if none is known yet
		}
		for _, in := range set {
			fmt.Println(in.Address)
		}
		break // ends the watch; a program would go on, and end it with ctx
	}
	// Output: 10.0.0.7:8080
}

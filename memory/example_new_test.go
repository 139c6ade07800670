package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Two clients of one store are like two processes. A crash of one leaves its entries until their lease expires.
func ExampleNew() {
	server := memory.New()
	client := server.Client()
	defer client.Close()
	ctx := context.Background()
	if _, err := server.Register(ctx, registry.Instance{Service: "users", Address: "10.0.0.7:8080"}); err != nil {
		log.Fatal(err)
	}

	server.Crash()
	set, err := client.Lookup(ctx, registry.Query{Service: "users"})
	fmt.Println(len(set), err)
	// Output: 1 <nil>
}

// A client with settings of its own.
func ExampleNewWith() {
	reg, err := memory.NewWith(memory.Config{TTL: time.Second, Options: registry.Options{OutageGrace: -1}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reg.Close())
	// Output: <nil>
}

// A setting that cannot be used is an error that names the field.
func ExampleConfig() {
	err := memory.Config{TTL: time.Millisecond}.Validate()
	fmt.Println(errors.Is(err, registry.ErrInvalid), err)
	// Output: true invalid: Config.TTL: 1ms is less than 10ms
}

// Programs open their registry by URL. In a test, Named reaches the store that the program has opened.
func ExampleOpen() {
	u, err := url.Parse("memory://example-open?ttl=1s")
	if err != nil {
		log.Fatal(err)
	}
	program, err := memory.Open(context.Background(), u)
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	if _, err := program.Register(context.Background(), registry.Instance{Service: "users", Address: "10.0.0.7:8080"}); err != nil {
		log.Fatal(err)
	}

	test := memory.Named("example-open")
	defer test.Close()
	services, err := test.Services(context.Background())
	fmt.Println(services, err)
	// Output: [users] <nil>
}

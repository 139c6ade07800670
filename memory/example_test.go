package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Client code is tested without a server: it takes a [registry.Discovery], and the test decides what there is.
func Example() {
	ctx := context.Background()
	reg := memory.New()
	defer reg.Close()

	users := registry.Instance{ID: "users-1", Service: "users", Address: "10.0.0.7:8080"}
	if _, err := reg.Register(ctx, users); err != nil {
		fmt.Println(err)
		return
	}
	show := func(d registry.Discovery) {
		set, err := d.Lookup(ctx, registry.Query{Service: "users"})
		fmt.Println(len(set), "found, unavailable:", errors.Is(err, registry.ErrUnavailable))
	}
	show(reg)

	reg.SetStatus("users", "users-1", registry.Maintenance) // as an operator would
	show(reg)

	reg.Fail(errors.New("connection refused")) // an outage, for this client alone
	show(reg)
	reg.Heal()

	// Output:
	// 1 found, unavailable: false
	// 0 found, unavailable: false
	// 0 found, unavailable: true
}

// A partition: one process is cut off, its lease runs out, and the others see it go.
func ExampleRegistry_Hang() {
	ctx := context.Background()
	others, err := memory.NewWith(memory.Config{
		TTL: 300 * time.Millisecond, // so that the example is quick
		// With a grace period, the watch would keep the lost instance for a while, beside an error.
		Options: registry.Options{Logger: slog.New(slog.DiscardHandler), OutageGrace: -1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer others.Close()
	server := others.Client()
	defer server.Close()
	if _, err := server.Register(ctx, registry.Instance{ID: "users-1", Service: "users", Address: "10.0.0.7:8080"}); err != nil {
		fmt.Println(err)
		return
	}

	cut := false
	for set := range others.Watch(ctx, registry.Query{Service: "users"}) {
		switch {
		case !cut:
			fmt.Println("found:", len(set))
			server.Hang()
			cut = true
		case len(set) == 0:
			fmt.Println("expired")
			server.Heal()
		default:
			fmt.Println("registered again:", set[0].ID)
			return
		}
	}
	// Output:
	// found: 1
	// expired
	// registered again: users-1
}

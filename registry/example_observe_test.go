package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Log what happens to this process's own registrations, and count what happens to its watches.
func ExampleRegistry_Observe() {
	reg := memory.New()
	defer reg.Close()
	events := make(chan registry.Event, 10)
	stop := reg.Observe(func(e registry.Event) {
		if e.Kind != registry.Attempted {
			events <- e
		}
	})
	defer stop()
	registration, err := reg.Register(context.Background(), registry.Instance{Service: "greeter", ID: "greeter-1", Address: "10.0.0.1:80"})
	if err != nil {
		log.Fatal(err)
	}
	if err := registration.Deregister(context.Background()); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		e := <-events
		fmt.Println(e.Kind, e.Service, e.ID)
	}
	// Output:
	// registered greeter greeter-1
	// deregistered greeter greeter-1
}

// Serve what this process watches and has registered as JSON.
func ExampleRegistry_Snapshot() {
	reg := memory.New()
	defer reg.Close()
	http.HandleFunc("GET /debug/registry", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(reg.Snapshot())
	})
}

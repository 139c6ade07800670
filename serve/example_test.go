package serve_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// The main function of an HTTP server that registers with Consul. On SIGTERM it leaves the registry, drains and stops.
func Example() {
	reg, err := consul.New(consul.Config{}) // the agent on this host
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	lis, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	s := &serve.Service{Registrar: reg, Instance: registry.Instance{Service: "greeter"}}
	http.Handle("/ready", s)
	if err := s.Serve(context.Background(), new(http.Server), lis); err != nil {
		log.Print(err)
	}
}

// A server with a second port for administration. Clients of the registry find it as the endpoint "admin".
func ExampleService() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &serve.Service{
		Registrar:  reg,
		Instance:   registry.Instance{Service: "greeter", Version: "1.4.2"},
		DrainDelay: 10 * time.Millisecond,
	}
	s.Endpoints = map[string]serve.Endpoint{"admin": {
		Server:   &http.Server{Handler: s, ReadHeaderTimeout: time.Second}, // says whether the service is ready
		Listener: admin,
	}}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, &http.Server{Handler: http.NotFoundHandler()}, lis) }() // with your handler
	for len(s.Registrations()) == 0 {
		time.Sleep(time.Millisecond)
	}
	in := s.Registrations()[0].Instance()
	res, err := http.Get("http://" + in.Endpoints["admin"])
	if err != nil {
		log.Fatal(err)
	}
	res.Body.Close()
	fmt.Println(in.Address == lis.Addr().String(), res.StatusCode)
	leave() // SIGTERM does the same
	fmt.Println(<-stopped)
	// Output:
	// true 200
	// <nil>
}

// A handler of server-sent events that ends its stream when the server leaves, so that the client connects to another one.
func ExampleService_Leaving() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &serve.Service{Registrar: reg, Instance: registry.Instance{Service: "ticker"}, DrainDelay: -1}
	events := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			fmt.Fprintf(w, "data: tick\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			case <-s.Leaving():
				return
			}
		}
	}
	ctx, leave := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, &http.Server{Handler: http.HandlerFunc(events)}, lis) }()

	leave() // SIGTERM and Drain do the same
	<-s.Leaving()
	fmt.Println("leaving")
	fmt.Println(<-stopped)
	// Output:
	// leaving
	// <nil>
}

// A server that is not ready before its cache is filled. Its checks see that on /ready, and clients of the registry see its status.
func ExampleService_NotReady() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &serve.Service{Registrar: reg, Instance: registry.Instance{Service: "greeter"}, DrainDelay: -1}
	s.NotReady()
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, &http.Server{Handler: s}, lis) }()
	for set := range reg.Watch(ctx, registry.Query{Service: "greeter", AnyStatus: true}) {
		if len(set) == 1 && set[0].Status == registry.Critical {
			fmt.Println(set[0].Status)
			s.Ready() // now the cache is filled
		}
		if len(set) == 1 && set[0].Status == registry.Passing {
			fmt.Println(set[0].Status)
			break
		}
	}
	leave()
	fmt.Println(<-stopped)
	// Output:
	// critical
	// passing
	// <nil>
}

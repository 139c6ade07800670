package grpcx_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// A process with a gRPC server and an HTTP server has one registration, one drain and one exit.
func ExampleServer_endpoints() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &grpcx.Server{
		Registrar: reg,
		Instance:  registry.Instance{Service: "greeter"},
		Endpoints: map[string]serve.Endpoint{
			"http": {Server: &http.Server{Handler: http.NotFoundHandler()}, Listener: web}, // with your handler
		},
	}
	s.DrainDelay = 10 * time.Millisecond // so that the example ends soon
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, grpc.NewServer(), lis) }() // with your services registered on it
	for len(s.Registrations()) == 0 {
		time.Sleep(time.Millisecond)
	}
	in := s.Registrations()[0].Instance()
	fmt.Println(in.Address == lis.Addr().String(), in.Endpoints["http"] == web.Addr().String())
	leave() // SIGTERM does the same, and ends both servers
	fmt.Println(<-stopped)
	// Output:
	// true true
	// <nil>
}

// The same, but the instance has the address of the HTTP server. gRPC clients find their endpoint with endpoint=grpc in the target.
func ExampleAsServer() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &serve.Service{
		Registrar: reg,
		Instance:  registry.Instance{Service: "greeter"},
		Endpoints: map[string]serve.Endpoint{
			"grpc": {Server: grpcx.AsServer(grpc.NewServer(), nil), Listener: lis}, // with your services registered on it
		},
		DrainDelay: 10 * time.Millisecond,
	}
	mux := http.NewServeMux() // with your handlers
	mux.Handle("/ready", s)
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, &http.Server{Handler: mux}, web) }()
	for len(s.Registrations()) == 0 {
		time.Sleep(time.Millisecond)
	}
	in := s.Registrations()[0].Instance()
	fmt.Println(in.Address == web.Addr().String(), in.Endpoints["grpc"] == lis.Addr().String())
	leave() // SIGTERM does the same, and ends both servers
	fmt.Println(<-stopped)
	// Output:
	// true true
	// <nil>
}

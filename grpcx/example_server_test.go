package grpcx_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// watcher has a handler whose streams do not end by themselves.
type watcher struct {
	healthpb.UnimplementedHealthServer
	leaving <-chan struct{}
}

// Watch ends when the client ends the stream or the server leaves, since gRPC waits for open streams before it stops.
func (w watcher) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-w.leaving:
		return nil // the client sees the end of the stream, and opens a new stream to another server
	}
}

// A handler that ends its streams when the server leaves.
func ExampleServer_Leaving() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "watcher"}, DrainDelay: -1}
	gs := grpc.NewServer()
	healthpb.RegisterHealthServer(gs, watcher{leaving: s.Leaving()})

	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, gs, lis) }()

	leave() // SIGTERM and Drain do the same
	<-s.Leaving()
	fmt.Println("leaving")
	fmt.Println(<-stopped)
	// Output:
	// leaving
	// <nil>
}

// A server that lowers its weight while it serves.
func ExampleServer_Registrations() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	s := &grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter", Weight: 10}, DrainDelay: -1}
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, grpc.NewServer(), lis) }()
	for len(s.Registrations()) == 0 {
		time.Sleep(time.Millisecond)
	}

	r := s.Registrations()[0]
	in := r.Instance()
	in.Weight = 1
	fmt.Println(r.Update(ctx, in), r.Err())
	s.NotReady() // keeps the weight
	s.Ready()

	set, err := reg.Lookup(ctx, registry.Query{Service: "greeter", AnyStatus: true})
	fmt.Println(set[0].Weight, err)
	leave()
	fmt.Println(<-stopped)
	// Output:
	// <nil> <nil>
	// 1 <nil>
	// <nil>
}

// A server with two services, an endpoint for administration and a DrainDelay of its own.
func ExampleServer() {
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
	s := &grpcx.Server{
		Registrar:  reg,
		Instance:   registry.Instance{Service: "greeter", Version: "1.4.2"},
		More:       []registry.Instance{{Service: "orders"}},
		Listeners:  map[string]net.Listener{"admin": admin}, // clients find it by endpoint=admin in the target
		DrainDelay: 10 * time.Millisecond,
	}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, grpc.NewServer(), lis) }() // with your services registered on it
	for len(s.Registrations()) < 2 {
		time.Sleep(time.Millisecond)
	}
	for _, r := range s.Registrations() {
		fmt.Println(r.Instance().Service, r.Instance().Endpoints["admin"] == admin.Addr().String())
	}
	leave() // SIGTERM does the same
	fmt.Println(<-stopped)
	// Output:
	// greeter true
	// orders true
	// <nil>
}

// A preStop hook that takes the server out of the registry before it gets SIGTERM.
func ExampleServer_Drain() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter"}, DrainDelay: 10 * time.Millisecond}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, grpc.NewServer(), lis) }()
	for len(s.Registrations()) == 0 {
		time.Sleep(time.Millisecond)
	}

	fmt.Println(s.Drain(ctx))
	set, err := reg.Lookup(ctx, registry.Query{Service: "greeter", AnyStatus: true})
	fmt.Println(len(set), err)
	leave()
	fmt.Println(<-stopped)
	// Output:
	// <nil>
	// 0 <nil>
	// <nil>
}

// A server that is not ready before its cache is filled.
func ExampleServer_NotReady() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter"}, DrainDelay: -1}
	s.NotReady()
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Serve(ctx, grpc.NewServer(), lis) }()
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

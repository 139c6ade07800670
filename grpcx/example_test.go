package grpcx_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// A server that registers itself, and a client that finds it by name.
func Example() {
	reg := memory.New() // or the Registry of another backend
	defer reg.Close()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() {
		s := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter"}, DrainDelay: -1}
		stopped <- s.Serve(ctx, grpc.NewServer(), lis) // with your services registered on it
	}()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "greeter"}, grpc.WaitForReady(true))
	fmt.Println(res.GetStatus(), err)

	leave() // SIGTERM does the same
	fmt.Println(<-stopped)
	// Output:
	// SERVING <nil>
	// <nil>
}

// Package greeter has the server and the calls of the examples.
package greeter

import (
	"context"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// Start starts a server of the service greeter for an example, and registers it as in. gRPC's health service is its only
// service. If it fails, the program ends, as in an example there is no test to fail.
func Start(reg registry.Registrar, in registry.Instance) (stop func()) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	in.Service = "greeter"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		s := grpcx.Server{Registrar: reg, Instance: in, DrainDelay: -1, Signals: []os.Signal{}}
		done <- s.Serve(ctx, grpc.NewServer(), lis)
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
}

// Call makes one call for an example, and returns the ID of the instance that has served it.
func Call(conn *grpc.ClientConn) string {
	ctx, served := grpcx.WithServed(context.Background())
	_, err := healthpb.NewHealthClient(conn).Check(ctx, new(healthpb.HealthCheckRequest), grpc.WaitForReady(true))
	if err != nil {
		log.Fatal(err)
	}
	return served.Instance().ID
}

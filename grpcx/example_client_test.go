package grpcx_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/internal/greeter"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// A channel to the instances of greeter that have the tag blue, with a health check.
func ExampleNewClient() {
	reg := memory.New() // or the Registry of another backend
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{Tags: []string{"blue"}})()

	conn, err := grpcx.NewClient("rollcall:///greeter?tag=blue&health=greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{Service: "greeter"}, grpc.WaitForReady(true))
	fmt.Println(res.GetStatus(), err)
	// Output:
	// SERVING <nil>
}

// A target that cannot be used is an error that names each part.
func ExampleNewClient_invalidTarget() {
	reg := memory.New()
	defer reg.Close()
	_, err := grpcx.NewClient("rollcall:///greeter?subset=-1", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	fmt.Println(err)
	// Output:
	// rollcall: new client: invalid: Subset (subset): -1 is negative; 0 means all
}

// A resolver for programs that call grpc.NewClient themselves.
func ExampleNewBuilder() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{})()

	conn, err := grpc.NewClient("rollcall:///greeter",
		grpc.WithResolvers(grpcx.NewBuilder(reg, grpcx.ResolverConfig{})),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"rollcall_round_robin":{}}]}`), // gRPC's default calls one instance only
		grpc.WithNoProxy(), // a proxy from the environment would replace the addresses of the instances
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(context.Background(), new(healthpb.HealthCheckRequest), grpc.WaitForReady(true))
	fmt.Println(err)
	// Output:
	// <nil>
}

// A resolver config for a channel that uses 20 instances of a service with many.
func ExampleResolverConfig() {
	reg := memory.New()
	defer reg.Close()
	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpcx.WithResolverConfig(grpcx.ResolverConfig{Subset: 20, ClientID: "shop-7", EmptyGrace: time.Minute}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(conn.Close())
	// Output:
	// <nil>
}

// An option that tunes the resolver of one channel.
func ExampleWithResolverConfig() {
	reg := memory.New()
	defer reg.Close()
	_, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpcx.WithResolverConfig(grpcx.ResolverConfig{PanicThreshold: 50}), // a share, not a percentage
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	fmt.Println(err)
	// Output:
	// rollcall: new client: invalid: PanicThreshold (panic-threshold): 50 is above 1, which means all instances
}

// Calls of a method without side effects, which its .proto file does not declare idempotent, are repeated up to four times.
func ExampleWithRetry() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{})()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpcx.WithRetry(grpcx.Retry{Methods: []string{"grpc.health.v1.Health/Check"}, MaxAttempts: 5}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(context.Background(), new(healthpb.HealthCheckRequest), grpc.WaitForReady(true))
	fmt.Println(err)
	// Output:
	// <nil>
}

// The instance that has served a call.
func ExampleWithServed() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{Version: "1.4.2", Zone: "eu-1"})()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, served := grpcx.WithServed(context.Background())
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, new(healthpb.HealthCheckRequest), grpc.WaitForReady(true)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(served.Instance().Version, served.Instance().Zone)
	// Output:
	// 1.4.2 eu-1
}

// A balancing policy reads the version of the instance behind an endpoint.
func ExampleInstanceFromEndpoint() {
	isNew := func(e resolver.Endpoint) bool {
		in := grpcx.InstanceFromEndpoint(e) // nil if another resolver made the endpoint
		return in != nil && in.Version == "2"
	}
	fmt.Println(isNew(resolver.Endpoint{}))
	// Output:
	// false
}

package consulscheme_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	_ "github.com/rollcall-go/rollcall/grpcx/consulscheme"
)

// A channel to all passing instances of greeter that have the tag blue. It needs a Consul on this host.
func Example() {
	conn, err := grpc.NewClient("consul://127.0.0.1:8500/greeter?tag=blue",
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{Service: "greeter"})
	fmt.Println(res.GetStatus(), err)
}

// A misspelt parameter is an error, not a target that selects something else.
func Example_unknownParameter() {
	conn, err := grpc.NewClient("consul://127.0.0.1:8500/greeter?tags=blue", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(context.Background(), new(healthpb.HealthCheckRequest))
	fmt.Println(err)
	// Output:
	// rpc error: code = Unavailable desc = rollcall: resolve: invalid: unknown URL parameter "tags" (known: allow-stale, dc, healthy, insecure, limit, max-backoff, near, require-consistent, tag, timeout, token, wait); did you mean "tag" for "tags"?
}

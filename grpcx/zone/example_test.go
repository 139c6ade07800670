package zone_test

import (
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/internal/greeter"
	_ "github.com/rollcall-go/rollcall/grpcx/zone" // registers the policy
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// All calls stay in the client's own zone, whose only instance is ready.
func Example() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{ID: "near", Zone: "eu-1"})()
	defer greeter.Start(reg, registry.Instance{ID: "far", Zone: "us-1"})()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"rollcall_zone":{"zone":"eu-1"}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	for greeter.Call(conn) != "near" { // until it is connected
	}
	calls := map[string]int{}
	for range 10 {
		calls[greeter.Call(conn)]++
	}
	fmt.Println(calls["near"], calls["far"])
	// Output:
	// 10 0
}

package weighted_test

import (
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/internal/greeter"
	_ "github.com/rollcall-go/rollcall/grpcx/weighted" // registers the policy
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Of four calls the instance with weight 3 gets three.
func Example() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{ID: "large", Weight: 3})()
	defer greeter.Start(reg, registry.Instance{ID: "small", Weight: 1})()

	conn, err := grpcx.NewClient("rollcall:///greeter?policy=rollcall_weighted", reg,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	for seen := map[string]bool{}; len(seen) < 2; { // until both are connected
		seen[greeter.Call(conn)] = true
	}
	calls := map[string]int{}
	for range 8 {
		calls[greeter.Call(conn)]++
	}
	fmt.Println(calls["large"], calls["small"])
	// Output:
	// 6 2
}

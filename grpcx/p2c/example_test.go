package p2c_test

import (
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/internal/greeter"
	_ "github.com/rollcall-go/rollcall/grpcx/p2c" // registers the policy
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Calls go to the instances that answer sooner.
func Example() {
	reg := memory.New()
	defer reg.Close()
	defer greeter.Start(reg, registry.Instance{ID: "a"})()
	defer greeter.Start(reg, registry.Instance{ID: "b"})()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"rollcall_p2c":{"decay":"5s"}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	calls := map[string]int{}
	for range 10 {
		calls[greeter.Call(conn)]++
	}
	fmt.Println(calls["a"] + calls["b"])
	// Output:
	// 10
}

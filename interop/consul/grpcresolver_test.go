package consul_test

import (
	"fmt"
	"testing"

	_ "github.com/mbobakov/grpc-consul-resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/internal/grpctest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// After a service has moved to Rollcall, clients that have not moved still find its instances as they change.
func TestRegister_IsFoundByGRPCConsulResolver(t *testing.T) {
	agent, r := start(t)
	first, second := grpctest.StartServer(t), grpctest.StartServer(t)
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: first})
	conn, err := grpc.NewClient(fmt.Sprintf("consul://%s/greeter?healthy=true", agent.Addr()),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	grpctest.CallsReach(t, conn, first)
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: second})
	grpctest.CallsReach(t, conn, first, second)
	watchtest.Deregister(t, g)
	grpctest.CallsReach(t, conn, second)
}

package consul_test

import (
	"fmt"
	"slices"
	"testing"

	_ "github.com/mbobakov/grpc-consul-resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/registry"
)

// A service that moves here is found by clients that have not: they follow instances as they come and go.
func TestGRPCConsulResolverFindsWhatWeAnnounce(t *testing.T) {
	agent, r := start(t)
	first, second := startBackend(t), startBackend(t)
	g := register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: first})
	conn, err := grpc.NewClient(fmt.Sprintf("consul://%s/greeter?healthy=true", agent.Addr()),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	reached := func(addresses ...string) func() bool {
		slices.Sort(addresses)
		return func() bool {
			var have []string
			for range 20 {
				var p peer.Peer
				if _, err := grpc_health_v1.NewHealthClient(conn).Check(within(t), &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&p)); err != nil {
					return false
				}
				if at := p.Addr.String(); !slices.Contains(have, at) {
					have = append(have, at)
				}
			}
			slices.Sort(have)
			return slices.Equal(have, addresses)
		}
	}
	eventually(t, "calls reach the first", reached(first))
	register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: second})
	eventually(t, "calls reach both", reached(first, second))
	deregister(t, g)
	eventually(t, "calls reach the second", reached(second))
}

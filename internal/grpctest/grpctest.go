// Package grpctest has gRPC servers for tests, and checks which of them calls reach.
package grpctest

import (
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// StartServer starts a server that answers health checks until the test ends, and returns its address.
func StartServer(t testing.TB) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	healthpb.RegisterHealthServer(srv, health.NewServer())
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(lis) })
	t.Cleanup(func() { srv.Stop(); serving.Wait() })
	return lis.Addr().String()
}

// CallsReach makes calls until 40 calls in a row have reached all servers at these addresses and no others.
func CallsReach(t testing.TB, conn grpc.ClientConnInterface, addresses ...string) {
	t.Helper()
	slices.Sort(addresses)
	watchtest.Eventually(t, "calls that reach the registered servers and no others", func() bool {
		var reached []string
		for range 40 {
			var p peer.Peer
			if _, err := healthpb.NewHealthClient(conn).Check(watchtest.Context(t), &healthpb.HealthCheckRequest{}, grpc.Peer(&p)); err != nil {
				return false
			}
			if at := p.Addr.String(); !slices.Contains(reached, at) {
				reached = append(reached, at)
			}
		}
		slices.Sort(reached)
		return slices.Equal(reached, addresses)
	})
}

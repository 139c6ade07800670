// Package lowest_test is a program that requires nothing but Rollcall and what it uses itself, so that every other module has the lowest
// version that go.mod of Rollcall allows. Its calls go through each backend.
package lowest_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
	"github.com/rollcall-go/rollcall/serve"
	"github.com/rollcall-go/rollcall/statuspage"
)

var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

func TestLowest_CallsThroughEachRegistry(t *testing.T) {
	for name, url := range map[string]string{
		"memory": "memory://lowest",
		"consul": "consul://" + testbed.StartConsul(t).Addr(),
		"etcd":   "etcd://" + testbed.StartEtcd(t).Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			reg, err := openers.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer reg.Close()
			stop, err := rollcallotel.Instrument(reg, rollcallotel.Config{MeterProvider: noop.NewMeterProvider()})
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			callGRPC(t, reg)
			callHTTP(t, reg)
		})
	}
}

// callGRPC registers a gRPC server, and calls it.
func callGRPC(t *testing.T, reg *registry.Registry) {
	const service = "lowest-grpc"
	server := grpc.NewServer()
	checks := health.NewServer()
	s := &grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: service}, Health: checks, DrainDelay: -1}
	healthpb.RegisterHealthServer(server, checks)
	run(t, func(ctx context.Context, lis net.Listener) error { return s.Serve(ctx, server, lis) })

	conn, err := grpcx.NewClient("rollcall:///"+service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthpb.NewHealthClient(conn).Check(watchtest.Context(t), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

// callHTTP registers an HTTP server that has the status page, and gets the page.
func callHTTP(t *testing.T, reg *registry.Registry) {
	const service = "lowest-http"
	server := &http.Server{Handler: statuspage.Handler(statuspage.Config{}, reg)}
	s := &serve.Service{Registrar: reg, Instance: registry.Instance{Service: service}, DrainDelay: -1}
	run(t, func(ctx context.Context, lis net.Listener) error { return s.Serve(ctx, server, lis) })
	watchtest.Watch(t, reg, registry.Query{Service: service}).Until("the server", watchtest.Healthy(1))

	client := httpx.NewClient(reg)
	defer client.CloseIdleConnections()
	res, err := client.Get("http://" + service + "/debug/rollcall/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the status page answers %s", res.Status)
	}
}

// run runs a server on a free port until the test ends.
func run(t *testing.T, serve func(context.Context, net.Listener) error) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- serve(ctx, lis) }()
	t.Cleanup(func() {
		leave()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

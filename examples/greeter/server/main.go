// Server is a gRPC service that registers itself, and leaves gracefully on SIGINT or SIGTERM. If the registry cannot be reached it
// serves all the same, logs that it is not registered, and registers as soon as it can.
//
//	go run ./examples/greeter/server -registry consul://127.0.0.1:8500
package main

import (
	"cmp"
	"context"
	"flag"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// openers says what this program can open: to change the backend, change the URL.
var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

func main() {
	if err := run(context.Background()); err != nil {
		slog.Error("the server failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	registryURL := flag.String("registry", cmp.Or(os.Getenv("ROLLCALL_REGISTRY"), "consul://127.0.0.1:8500"), "URL of the registry; default from ROLLCALL_REGISTRY")
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one, and :0 is advertised as this host's address")
	drain := flag.Duration("drain", time.Second, "how long to go on serving after the registry is told that the server leaves")
	flag.Parse()

	reg, err := openers.Open(ctx, *registryURL)
	if err != nil {
		return err
	}
	defer reg.Close()
	lis, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	gs := grpc.NewServer()
	greeting.Register(gs, greeting.From(lis.Addr().String()))
	server := grpcx.Server{
		Registrar:  reg,
		Instance:   registry.Instance{Service: greeting.Service, Version: "1.0.0"},
		DrainDelay: *drain,
	}
	return server.Serve(ctx, gs, lis)
}

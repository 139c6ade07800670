// Server is an HTTP service that registers itself, and leaves gracefully on SIGINT or SIGTERM. If the registry cannot be reached it serves
// all the same, logs that it is not registered, and registers as soon as it can. Its path /ready is for checks and probes.
//
//	go run ./examples/http/server -registry consul://127.0.0.1:8500
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// openers says what this program can open. The program has no gRPC in it; "etcd": etcd.Open would add it, since etcd speaks gRPC.
var openers = registry.Openers{"consul": consul.Open, "memory": memory.Open}

func main() {
	if err := run(context.Background()); err != nil {
		slog.Error("the server failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	registryURL := flag.String("registry", cmp.Or(os.Getenv("ROLLCALL_REGISTRY"), "consul://127.0.0.1:8500"), "URL of the registry; default from ROLLCALL_REGISTRY")
	service := flag.String("service", "web", "name of the service")
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
	s := &serve.Service{
		Registrar:  reg,
		Instance:   registry.Instance{Service: *service, Version: "1.0.0"},
		DrainDelay: *drain,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "hello from %s\n", lis.Addr()) })
	mux.Handle("/ready", s)
	return s.Serve(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, lis)
}

// Client calls the greeter service at a steady rate and prints who answered. It logs the first call that fails, ends after -for, or
// on SIGINT or SIGTERM, and fails if no call succeeded.
//
//	go run ./examples/greeter/client -registry consul://127.0.0.1:8500
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/examples/internal/load"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// openers says what this program can open: to change the backend, change the URL.
var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the client failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	registryURL := flag.String("registry", cmp.Or(os.Getenv("ROLLCALL_REGISTRY"), "consul://127.0.0.1:8500"), "URL of the registry; default from ROLLCALL_REGISTRY")
	rate := flag.Int("rate", 500, "calls a second")
	length := flag.Duration("for", time.Minute, "how long to call")
	flag.Parse()

	reg, err := openers.Open(ctx, *registryURL)
	if err != nil {
		return err
	}
	defer reg.Close()
	conn, err := grpcx.NewClient("rollcall:///"+greeting.Service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	calls, err := load.Start(ctx, conn, *rate)
	if err != nil {
		return err
	}
	calls.Wait()
	fmt.Print(calls.Table())
	if total, failed, errs := calls.Count(); failed > 0 && failed == total {
		return fmt.Errorf("none of %d calls succeeded, the first error: %w", total, errs[0])
	}
	return nil
}

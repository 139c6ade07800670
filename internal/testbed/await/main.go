// Await blocks until the Consul at an address has a leader and, if a service is named, that many passing instances of the service.
// CI uses it between the README's commands, which a person runs one after another.
//
//	go run ./internal/testbed/await 127.0.0.1:8500 [SERVICE COUNT]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

const timeout = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := await(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "await:", err)
		os.Exit(1)
	}
}

func await(ctx context.Context, args []string) error {
	service, count := "consul", 1 // Consul itself is in its own catalog
	switch len(args) {
	case 1:
	case 3:
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("COUNT: %q is not a whole number", args[2])
		}
		service, count = args[1], n
	default:
		return fmt.Errorf("usage: await HOST:PORT [SERVICE COUNT]")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reg, err := consul.New(consul.Config{Address: args[0]})
	if err != nil {
		return err
	}
	defer reg.Close()
	last := 0
	for set, err := range reg.Watch(ctx, registry.Query{Service: service}) {
		if last = len(set); err == nil && last == count {
			return nil
		}
	}
	return fmt.Errorf("within %v there were not %d passing instances of %s, but %d", timeout, count, service, last)
}

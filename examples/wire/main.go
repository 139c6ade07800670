// Wire shows google/wire building a registry and what depends on it. The injector in wire_gen.go is generated:
//
//	go tool -modfile=tools/wire/go.mod wire ./examples/wire
//
// The two injectors in wire.go differ only in their provider set, which decides the backend.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

// directory depends on the interface registry.Discovery, and not on a backend.
type directory struct {
	discovery registry.Discovery
}

func newDirectory(d registry.Discovery) *directory { return &directory{d} }

func (d *directory) addresses(ctx context.Context, service string) ([]string, error) {
	set, err := d.discovery.Lookup(ctx, registry.Query{Service: service})
	if err != nil {
		return nil, err
	}
	out := make([]string, len(set))
	for i, in := range set {
		out[i] = in.Address
	}
	return out, nil
}

func main() {
	address := flag.String("consul", "127.0.0.1:8500", "address of the Consul agent")
	service := flag.String("service", "consul", "service to look up")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *address, *service); err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, address, service string) error {
	d, cleanup, err := initOnConsul(consul.Config{Address: address})
	if err != nil {
		return err
	}
	defer cleanup()
	addresses, err := d.addresses(ctx, service)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %s\n", service, strings.Join(addresses, ", "))
	return err
}

// Config changes the timeout and the balancing policy of a service while its client calls it. The service config is a value in the registry,
// which the client follows without a restart.
//
//	go run ./examples/config
//
// With a registry of your own, change the service config yourself while the program runs:
//
//	go run ./examples/config -registry consul://127.0.0.1:8500
//	go run ./cmd/rollcall -r consul://127.0.0.1:8500 config put greeter examples/config/greeter.json
//	go run ./cmd/rollcall -r consul://127.0.0.1:8500 config delete greeter
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// openers has the backends of this program. The URL selects one of them.
var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

func main() {
	registryURL := flag.String("registry", "", "URL of the registry; default: one in this process, with an operator who changes the service config")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // the program explains its steps on standard output
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *registryURL == "" {
		err = run(ctx, "memory://config", os.Stdout, operate)
	} else {
		err = run(ctx, *registryURL, os.Stdout, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "config:", err)
		os.Exit(1)
	}
}

// run starts three servers and calls them. It writes how the calls are made whenever that changes, until operator returns or ctx ends.
// operator may be nil.
func run(ctx context.Context, registryURL string, out io.Writer, operator func(context.Context, *registry.Registry, *calls) error) error {
	reg, err := openers.Open(ctx, registryURL)
	if err != nil {
		return err
	}
	defer reg.Close()
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx)) // they leave after the last call
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stopServers()
	for range 3 {
		if err := startServer(servers, reg, &serving); err != nil {
			return err
		}
	}
	conn, err := connect(reg)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := newCalls(out)
	if operator == nil {
		fmt.Fprintf(out, "calling %s, whose service config is %s in %s; Ctrl-C ends this\n", greeting.Service, configKey, reg)
		c.run(ctx, conn)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var calling sync.WaitGroup
	defer calling.Wait()
	defer cancel()
	calling.Go(func() { c.run(ctx, conn) })
	return operator(ctx, reg, c)
}

// startServer starts a server that leaves when ctx ends.
func startServer(ctx context.Context, reg *registry.Registry, serving *sync.WaitGroup) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	gs := grpc.NewServer()
	greeting.Register(gs, timeoutServer(lis.Addr().String()))
	server := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: greeting.Service}, DrainDelay: -1, Signals: []os.Signal{}}
	serving.Go(func() {
		if err := server.Serve(ctx, gs, lis); err != nil && !errors.Is(err, context.Canceled) {
			slog.Error("a server failed", "error", err)
		}
	})
	return nil
}

// connect returns a channel whose service config is in the registry. Until there is one, it has the timeout below.
func connect(reg *registry.Registry) (*grpc.ClientConn, error) {
	return grpcx.NewClient("rollcall:///"+greeting.Service, reg,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "timeout": "5s"}]}`),
		grpcx.WithResolverConfig(grpcx.ResolverConfig{ServiceConfigKey: "rollcall/config/SERVICE"}))
}

// configKey is the key of the service config of the greeter.
const configKey = "rollcall/config/" + greeting.Service

// operate changes the service config as an operator would.
func operate(ctx context.Context, reg *registry.Registry, c *calls) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.wait(ctx, summary{servers: 3, timeout: "5s"}); err != nil {
		return err
	}
	c.say("put pick_first and a timeout of 2s")
	good, err := reg.PutValue(ctx, configKey, []byte(`{"loadBalancingConfig": [{"pick_first": {}}], "methodConfig": [{"name": [{}], "timeout": "2s"}]}`),
		registry.PutOptions{})
	if err != nil {
		return err
	}
	if err := c.wait(ctx, summary{servers: 1, timeout: "2s"}); err != nil {
		return err
	}
	c.say("put a text that is no service config: the last good one stays")
	bad, err := reg.PutValue(ctx, configKey, []byte(`{"methodConfig"`), registry.PutOptions{IfRevision: good.Revision})
	if err != nil {
		return err
	}
	if err := c.makeMore(ctx, 5*roundSize); err != nil {
		return err
	}
	c.say("put a timeout of 1s, with the policy of the program")
	if _, err := reg.PutValue(ctx, configKey, []byte(`{"methodConfig": [{"name": [{}], "timeout": "1s"}]}`), registry.PutOptions{IfRevision: bad.Revision}); err != nil {
		return err
	}
	if err := c.wait(ctx, summary{servers: 3, timeout: "1s"}); err != nil {
		return err
	}
	c.say("delete the key: the service config of the program is back")
	if err := reg.DeleteValue(ctx, configKey, registry.PutOptions{}); err != nil {
		return err
	}
	if err := c.wait(ctx, summary{servers: 3, timeout: "5s"}); err != nil {
		return err
	}
	c.say("%d calls, %d failed", c.made(), c.failures())
	return nil
}

// Quickstart shows Rollcall at work in one process and without any set-up: three servers register themselves, a client
// finds them by name and calls them without a pause while one server leaves, one joins and one crashes.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -registry consul://127.0.0.1:8500
//	go run ./examples/quickstart -registry etcd://127.0.0.1:2379
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
	registryURL := flag.String("registry", "memory://quickstart?ttl=3s", "URL of the registry")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // the story is told on standard output
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, *registryURL, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, registryURL string, out io.Writer) error {
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}

	reg, err := openers.Open(ctx, registryURL)
	if err != nil {
		return err
	}
	defer reg.Close()
	say("The registry is %s.", reg)
	var servers []*server
	serve := func() (*server, error) {
		s, err := startServer(ctx, registryURL)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
		say("A server starts on %s and registers itself.", s.address)
		return s, nil
	}
	defer func() {
		for _, s := range servers {
			s.leave()
		}
	}()
	for range 3 {
		if _, err := serve(); err != nil {
			return err
		}
	}

	conn, err := grpcx.NewClient("rollcall:///"+greeting.Service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := found(ctx, reg, 3); err != nil {
		return err
	}
	calling, stop := context.WithCancel(ctx)
	defer stop()
	calls, err := load.Start(calling, conn, 500)
	if err != nil {
		return err
	}
	answered := func(s *server) error {
		return wait(ctx, s.address+" to answer calls", func() bool { return calls.Answered(s.address) > 100 })
	}
	for _, s := range servers {
		if err := answered(s); err != nil {
			return err
		}
	}
	say("A client calls %q 500 times a second; all three answer.", greeting.Service)

	leaver, crasher := servers[0], servers[1]
	if err := leaver.leave(); err != nil {
		return err
	}
	_, failed, _ := calls.Count()
	say("%s has left the registry, finished its calls and stopped: %d calls failed.", leaver.address, failed)

	s, err := serve()
	if err != nil {
		return err
	}
	if err := answered(s); err != nil {
		return err
	}
	say("%s answers calls too.", s.address)

	crasher.crash()
	say("%s crashes: nobody deregisters it, and the calls go on with the others.", crasher.address)
	if err := found(ctx, reg, 2); err != nil {
		return err
	}
	say("Its lease has ended, and the registry has dropped it.")
	stop()
	calls.Wait()

	fmt.Fprintf(out, "\n%s", calls.Table())
	total, failed, first := calls.Count()
	if failed > total/100 {
		return fmt.Errorf("%d of %d calls failed, more than were in flight to the crashed server: %w", failed, total, errors.Join(first...))
	}
	return nil
}

// found blocks until the registry has n passing servers.
func found(ctx context.Context, reg registry.Discovery, n int) error {
	var last error
	for set, err := range reg.Watch(ctx, registry.Query{Service: greeting.Service}) {
		if err == nil && len(set) == n {
			return nil
		}
		last = err
	}
	return fmt.Errorf("waiting for %d servers in the registry: %w", n, errors.Join(ctx.Err(), last))
}

func wait(ctx context.Context, what string, done func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// server is what a process of its own would be: it has its own connection to the registry.
type server struct {
	address string
	reg     *registry.Registry
	gs      *grpc.Server
	stop    context.CancelFunc
	done    chan struct{}
	err     error // of Serve; set before done is closed
}

func startServer(ctx context.Context, registryURL string) (*server, error) {
	reg, err := openers.Open(ctx, registryURL)
	if err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		reg.Close()
		return nil, err
	}
	s := &server{address: lis.Addr().String(), reg: reg, gs: grpc.NewServer(), done: make(chan struct{})}
	greeting.Register(s.gs, greeting.From(s.address))
	ctx, s.stop = context.WithCancel(ctx)
	life := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: greeting.Service}}
	go func() {
		defer close(s.done)
		s.err = life.Serve(ctx, s.gs, lis)
	}()
	return s, nil
}

// leave is what SIGTERM would do: deregister, drain, stop.
func (s *server) leave() error {
	s.stop()
	<-s.done
	s.reg.Close()
	return s.err
}

// crash is as if the process had died: the entry stays behind in the registry, and connections break.
func (s *server) crash() {
	s.reg.Close()
	s.gs.Stop()
	<-s.done
}

// Quickstart shows Rollcall in one process and without any set-up. Three servers register themselves. A client finds them by name and calls
// them all the time, while one server leaves, one joins and one crashes.
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
	"os/signal"
	"slices"
	"strings"
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

// openers has the backends of this program. The URL selects one of them.
var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}

// service is the name under which the servers register. It is not the name of the greeter example, whose servers may be in the same
// registry: this program waits for servers of its own.
const service = "quickstart"

func main() {
	registryURL := flag.String("registry", "memory://quickstart?ttl=3s", "URL of the registry")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // the program explains its steps on standard output
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
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
	if err := answers(ctx, reg); err != nil {
		return err
	}
	say("The registry is %s.", reg)
	var servers []*server
	serve := func() (*server, error) {
		s, err := startServer(ctx, registryURL)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
		if err := registered(ctx, reg, s.address); err != nil {
			return nil, err
		}
		say("A server starts on %s and has registered itself.", s.address)
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

	conn, err := grpcx.NewClient("rollcall:///"+service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
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
	say("A client calls %q 500 times a second; all three answer.", service)

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
	say("%s crashes without deregistering, and the calls go on with the others.", crasher.address)
	if err := found(ctx, reg, 2); err != nil {
		return err
	}
	say("Its lease has ended, and the registry has dropped it.")
	stop()
	calls.Wait()

	fmt.Fprintf(out, "\n%s", calls.Table())
	total, failed, first := calls.Count()
	if failed > load.MaxInFlight {
		return fmt.Errorf("%d of %d calls failed, more than were in flight to the crashed server: %w", failed, total, errors.Join(first...))
	}
	return nil
}

// answerTimeout is how long the registry may take for an answer.
const answerTimeout = 3 * time.Second

// answers returns an error if the registry does not answer within answerTimeout. All other calls would wait for the registry.
func answers(ctx context.Context, reg *registry.Registry) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := reg.Services(ctx); err != nil {
		return fmt.Errorf("the registry, %s, does not answer: %w", reg, err)
	}
	return nil
}

// registered blocks until the registry has a passing server with that address.
func registered(ctx context.Context, reg registry.Discovery, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*answerTimeout)
	defer cancel()
	var last error
	for set, err := range reg.Watch(ctx, registry.Query{Service: service}) {
		if err == nil && slices.ContainsFunc(set, func(in *registry.Instance) bool { return in.Address == address }) {
			return nil
		}
		last = err
	}
	return fmt.Errorf("waiting for %s in the registry: %w", address, errors.Join(ctx.Err(), last))
}

// found blocks until the registry has n passing servers.
func found(ctx context.Context, reg registry.Discovery, n int) error {
	var last error
	for set, err := range reg.Watch(ctx, registry.Query{Service: service}) {
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

// server is what a process would be: it has its own connection to the registry.
type server struct {
	address string
	reg     *registry.Registry
	gs      *grpc.Server
	stop    context.CancelFunc
	done    chan struct{}
	err     error // of Serve; set before done is closed
}

// keepingOnClose makes Close keep the entry, so that crash looks like the end of a process. Your own program should use the default: Close
// deregisters what is still registered.
func keepingOnClose(registryURL string) string {
	separator := "?"
	if strings.Contains(registryURL, "?") {
		separator = "&"
	}
	return registryURL + separator + "keep-on-close=true"
}

func startServer(ctx context.Context, registryURL string) (*server, error) {
	reg, err := openers.Open(ctx, keepingOnClose(registryURL))
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
	life := grpcx.Server{
		Registrar: reg,
		Instance:  registry.Instance{Service: service},
		Signals:   []os.Signal{}, // main handles them: a signal ends the whole program, not one server
	}
	go func() {
		defer close(s.done)
		s.err = life.Serve(ctx, s.gs, lis)
	}()
	return s, nil
}

// leave does what SIGTERM does: it deregisters, drains and stops the server.
func (s *server) leave() error {
	s.stop()
	<-s.done
	s.reg.Close()
	return s.err
}

// crash does what the end of the process does: the entry stays in the registry, and connections break.
func (s *server) crash() {
	s.reg.Close()
	s.gs.Stop()
	<-s.done
}

// Quickstart shows Rollcall with HTTP, in one process and without any set-up. Three servers register themselves. A client sends GETs and POSTs
// to them by name all the time, while one server leaves, one joins and one crashes. The program contains no gRPC.
//
//	go run ./examples/http/quickstart
//	go run ./examples/http/quickstart -registry consul://127.0.0.1:8500
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// openers has the backends of this program. The URL selects one of them.
var openers = registry.Openers{"consul": consul.Open, "memory": memory.Open}

const service = "quickstart-http"

func main() {
	registryURL := flag.String("registry", "memory://quickstart-http?ttl=3s", "URL of the registry")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the program explains its steps on standard output
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
	defer func() {
		for _, s := range servers {
			_ = s.leave()
		}
	}()
	add := func() (*server, error) {
		s, err := startServer(ctx, registryURL)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
		isThere := func(set []*registry.Instance) bool {
			return slices.ContainsFunc(set, func(in *registry.Instance) bool { return in.Address == s.address })
		}
		if err := watch(ctx, reg, s.address+" to be registered", isThere); err != nil {
			return nil, err
		}
		say("A server starts on %s and has registered itself.", s.address)
		return s, nil
	}
	for range 3 {
		if _, err := add(); err != nil {
			return err
		}
	}

	load := newLoad()
	transport := &httpx.Transport{Discovery: reg, Observe: load.count}
	defer transport.Close()
	sending, stop := context.WithCancel(ctx)
	defer stop()
	load.start(sending, &http.Client{Transport: transport, Timeout: 5 * time.Second})
	for _, s := range servers {
		if err := load.isAnsweredBy(ctx, s.address); err != nil {
			return err
		}
	}
	say("A client sends %d requests a second to http://%s/, GET and POST in turn; all three answer.", rate, service)

	leaver, crasher := servers[0], servers[1]
	if err := leaver.leave(); err != nil {
		return err
	}
	say("%s has left the registry, finished its requests and stopped: %d requests failed.", leaver.address, load.failures())
	s, err := add()
	if err != nil {
		return err
	}
	if err := load.isAnsweredBy(ctx, s.address); err != nil {
		return err
	}
	say("%s answers requests too.", s.address)
	crasher.crash()
	say("%s crashes without deregistering, and the requests go on with the others.", crasher.address)
	if err := watch(ctx, reg, "the crashed server to go", func(set []*registry.Instance) bool { return len(set) == 2 }); err != nil {
		return err
	}
	say("Its lease has ended, so two servers pass.")
	stop()
	return load.end(out)
}

// answers returns an error if the registry does not answer soon. All other calls would wait for the registry.
func answers(ctx context.Context, reg *registry.Registry) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := reg.Services(ctx); err != nil {
		return fmt.Errorf("the registry, %s, does not answer: %w", reg, err)
	}
	return nil
}

// watch blocks until the passing servers are as done wants them.
func watch(ctx context.Context, reg registry.Discovery, what string, done func([]*registry.Instance) bool) error {
	for set, err := range reg.Watch(ctx, registry.Query{Service: service}) {
		if err == nil && done(set) {
			return nil
		}
	}
	return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
}

// server is what a process would be: it has its own connection to the registry.
type server struct {
	address string
	reg     *registry.Registry
	http    *http.Server
	stop    context.CancelFunc
	done    chan struct{}
	err     error // of Serve; set before done is closed
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
	s := &server{address: lis.Addr().String(), reg: reg, done: make(chan struct{})}
	s.http = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", s.address)
	})}
	ctx, s.stop = context.WithCancel(ctx)
	life := serve.Service{
		Registrar: reg,
		Instance:  registry.Instance{Service: service},
		Signals:   []os.Signal{}, // main handles them: a signal ends the whole program, not one server
	}
	go func() {
		defer close(s.done)
		s.err = life.Serve(ctx, s.http, lis)
	}()
	return s, nil
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
	s.http.Close()
	<-s.done
}

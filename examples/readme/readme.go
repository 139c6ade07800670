// Package readme has the Go snippets of README.md, docs/use.md and docs/config.md, each as the body of a function, so that they compile. A test of package docs
// fails if the two differ.
package readme

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// The names that a reader of these pages has in their own program.
var (
	pb      generated
	greeter any
	creds   credentials.TransportCredentials
	mux     http.Handler
	work    func(ctx context.Context) error
	use     func(set []*registry.Instance)

	apply         func(data []byte)
	applyDefaults func()
)

var _ = []any{server, client, httpServer, httpClient, register, watch, watchValue, putValue, unittest}

// generated replaces the package that protoc generates.
type generated struct{}

func (generated) RegisterGreeterServer(grpc.ServiceRegistrar, any) {}

func server(ctx context.Context, lis net.Listener) error {
	openers := registry.Openers{"consul": consul.Open, "etcd": etcd.Open, "memory": memory.Open}
	reg, err := openers.Open(ctx, os.Getenv("REGISTRY_URL")) // consul://127.0.0.1:8500/?dc=dc1
	if err != nil {
		return err
	}
	defer reg.Close() // deregisters what is still registered

	gs := grpc.NewServer()
	pb.RegisterGreeterServer(gs, greeter)
	server := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter", Version: "1.4.0"}}
	return server.Serve(ctx, gs, lis)
}

func client(reg *registry.Registry) (*grpc.ClientConn, error) {
	conn, err := grpcx.NewClient("rollcall:///greeter?tag=blue", reg, grpc.WithTransportCredentials(creds))
	return conn, err
}

func httpServer(ctx context.Context, reg *registry.Registry, lis net.Listener) error {
	service := serve.Service{Registrar: reg, Instance: registry.Instance{Service: "web"}}
	return service.Serve(ctx, &http.Server{Handler: mux}, lis)
}

func httpClient(reg *registry.Registry) (*http.Response, error) {
	resp, err := httpx.NewClient(reg).Get("http://web/books") // an instance of web
	return resp, err
}

func register(ctx context.Context, reg *registry.Registry) error {
	registration, err := reg.Register(ctx, registry.Instance{Service: "greeter", Address: ":8080"})
	if err != nil {
		return err
	}
	log.Print("registered as ", registration.Instance().ID) // until registration.Deregister or reg.Close
	return work(ctx)
}

func watch(ctx context.Context, reg *registry.Registry) {
	for set, err := range reg.Watch(ctx, registry.Query{Service: "greeter"}) {
		if err != nil {
			log.Print(err) // why set may be out of date: it is the last good one, or nil if none is known yet
		}
		use(set)
	}
	// The loop ends with ctx, after reg.Close, and for a query that can never work.
}

func unittest(ctx context.Context) {
	reg := memory.New() // for code that takes a registry.Discovery
	reg.Register(ctx, registry.Instance{Service: "payment", Address: "10.0.0.1:80"})
	reg.Fail(errors.New("the registry is down"))
}

func watchValue(ctx context.Context, reg *registry.Registry) {
	for v, err := range reg.WatchValue(ctx, "shop/flags/checkout") {
		switch {
		case v != nil:
			apply(v.Data) // beside an error: the last good value
		case err == nil:
			applyDefaults() // there is no such key
		}
		if err != nil {
			log.Print(err) // why v may be out of date, or is not known yet
		}
	}
	// The loop ends with ctx, after reg.Close, and for a key that cannot be used.
}

func putValue(ctx context.Context, reg *registry.Registry, old *registry.Value, data []byte) error {
	v, err := reg.PutValue(ctx, "shop/flags/checkout", data, registry.PutOptions{IfRevision: old.Revision})
	if errors.Is(err, registry.ErrConflict) {
		return errors.New("another client has changed it: read it again, and decide anew")
	}
	if err == nil {
		log.Print("it has the revision ", v.Revision)
	}
	return err
}

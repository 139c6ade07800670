package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// httpServer serves a gRPC server through the Handler of an http.Server. It is a grpcx.GRPCServer: the gRPC server has the services, and the
// http.Server has the connections.
type httpServer struct {
	*grpc.Server
	http *http.Server
}

func (s httpServer) Serve(lis net.Listener) error {
	if err := s.http.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return grpc.ErrServerStopped
}

// GracefulStop waits for the calls before it stops the gRPC server, since GracefulStop of the gRPC server would cut them.
func (s httpServer) GracefulStop() {
	_ = s.http.Shutdown(context.Background()) // Stop ends it
	s.Server.Stop()
}

// Stop cuts the calls.
func (s httpServer) Stop() {
	_ = s.http.Close()
	s.Server.Stop()
}

// newHTTPServer serves gRPC and other requests on one port.
func newHTTPServer(gs *grpc.Server, other http.Handler) httpServer {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)            // over TLS
	protocols.SetUnencryptedHTTP2(true) // and without
	return httpServer{gs, &http.Server{
		Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && r.Header.Get("Content-Type") == "application/grpc" {
				gs.ServeHTTP(w, r)
				return
			}
			other.ServeHTTP(w, r)
		}),
	}}
}

// A gRPC server that is an http.Handler, beside other handlers on the same port. GracefulStop of grpc.Server cuts the calls that came
// through ServeHTTP, so the http.Server is shut down first.
func ExampleServer_Serve_httpHandler() {
	reg := memory.New()
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() {
		s := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter"}, DrainDelay: -1}
		stopped <- s.Serve(ctx, newHTTPServer(grpc.NewServer(), http.NotFoundHandler()), lis)
	}()

	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "greeter"}, grpc.WaitForReady(true))
	fmt.Println(res.GetStatus(), err)

	leave()
	fmt.Println(<-stopped)
	// Output:
	// SERVING <nil>
	// <nil>
}

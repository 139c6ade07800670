package grpcx

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/serve"
)

// AsServer returns gs as a server for [serve.Service]. It is for processes that also have an HTTP server, and register the address of the
// HTTP server. Otherwise use [Server]. h is the health service that the caller has registered with gs: the statuses of its services follow
// the readiness of the Service. h may be nil, as in Server.Health.
//
// Use the result for one Service and one call of its Serve, with all services registered on gs, and before gs serves anything. AsServer
// itself changes nothing.
func AsServer(gs GRPCServer, h *health.Server) serve.Server {
	return &grpcServer{gs: gs, health: h, given: new(givenHealth)}
}

// grpcServer is a gRPC server as a [serve.Server]. It implements [serve.HealthReporter].
type grpcServer struct {
	gs      GRPCServer
	health  *health.Server // nil if gs has a health service that is the caller's own
	given   *givenHealth   // nil if health is not the caller's
	begun   bool           // ReportHealth was called
	stopped atomic.Bool    // gs has stopped
}

// Serve implements [serve.Server].
func (s *grpcServer) Serve(lis net.Listener) error {
	err := s.gs.Serve(lis)
	switch {
	case err == nil, errors.Is(err, http.ErrServerClosed):
		s.stopped.Store(true)
	case errors.Is(err, grpc.ErrServerStopped):
		s.stopped.Store(true)
		return stoppedError{err}
	}
	return err
}

// stoppedError is an error that says that a gRPC server was stopped. Package serve knows the one of net/http.
type stoppedError struct{ error }

// Is implements [errors.Is].
func (stoppedError) Is(target error) bool { return target == http.ErrServerClosed }

// Unwrap returns gRPC's error.
func (e stoppedError) Unwrap() error { return e.error }

// Shutdown implements [serve.Server]. If ctx ends, GracefulStop goes on until Close. Shutdown does not wait for it after a stop: it waits
// for all handlers, and a handler that ignores its context would keep the process from ending.
func (s *grpcServer) Shutdown(ctx context.Context) error {
	if s.stopped.Load() {
		return nil
	}
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.gs.GracefulStop()
	}()
	select {
	case <-graceful:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements [serve.Server].
func (s *grpcServer) Close() error {
	s.gs.Stop()
	return nil
}

// ReportHealth implements [serve.HealthReporter]: it sets the gRPC health of the services in h, and of the services of gs, which follow the
// server as a whole. It names all of them, since a client that asks for a service without a status fails every call.
func (s *grpcServer) ReportHealth(h serve.Health) {
	if !s.begun {
		s.begun = true
		s.begin()
	}
	if s.health == nil {
		return
	}
	if h.Leaving {
		if s.given == nil || s.given.leave(s.health) {
			s.health.Shutdown()
		}
		return
	}
	whole := false
	for _, serves := range h.Serving {
		whole = whole || serves
	}
	for name := range s.gs.GetServiceInfo() {
		s.health.SetServingStatus(name, servingStatus(whole))
	}
	for name, serves := range h.Serving {
		s.health.SetServingStatus(name, servingStatus(serves))
	}
	s.health.SetServingStatus("", servingStatus(whole))
}

// begin registers a health service, unless gs has one.
func (s *grpcServer) begin() {
	if s.health == nil {
		s.given = nil
	} else {
		s.given.begin(s.health)
	}
	if _, has := s.gs.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]; !has {
		if s.health == nil {
			s.health = health.NewServer()
		}
		healthpb.RegisterHealthServer(s.gs, s.health)
	}
}

func servingStatus(serves bool) healthpb.HealthCheckResponse_ServingStatus {
	if serves {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// givenHealth counts the servers that report through a health service of the caller, which several may share and which may be used again.
type givenHealth struct {
	mu      sync.Mutex
	servers map[*health.Server]int // that have begun and do not leave; 0 after a shutdown
}

// begin adds a server.
func (g *givenHealth) begin(h *health.Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, used := g.servers[h]; used && n == 0 {
		h.Resume() // sets every service to SERVING, which the server corrects
	}
	if g.servers == nil {
		g.servers = map[*health.Server]int{}
	}
	g.servers[h]++
}

// leave removes a server, and reports whether it was the last one.
func (g *givenHealth) leave(h *health.Server) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers[h]--
	return g.servers[h] == 0
}

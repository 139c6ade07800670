package serve

import (
	"context"
	"net"
)

// Server is what [Service] needs of a server. *http.Server implements it. grpcx.AsServer makes one of a gRPC server.
type Server interface {
	// Serve accepts connections from a listener, closes the listener when it returns, and blocks until a stop or a failure. After
	// Shutdown or Close it must return nil or an error that wraps [http.ErrServerClosed]. It may be called for several listeners.
	Serve(net.Listener) error
	// Shutdown closes the listeners, accepts no new requests, and blocks until those in progress have ended, or ctx ends.
	Shutdown(ctx context.Context) error
	// Close ends all requests, and closes all listeners and connections. It may be called after Shutdown, and more than once.
	Close() error
}

// Endpoint is a further listener of a [Service], and the server for it.
type Endpoint struct {
	// Server serves Listener. Default: the server that is passed to Serve. One server may have several endpoints.
	Server Server
	// Listener has the address at which clients find the endpoint. Required.
	Listener net.Listener
}

// HealthReporter is implemented by servers that tell their clients which services may be called, such as gRPC servers with a health
// service. It is optional.
type HealthReporter interface {
	// ReportHealth is called before Serve of the server, and whenever Health may have changed. The registry and the application learn of a
	// change after ReportHealth has returned; only [Service.Leaving] is closed before. Calls for one Service come one after another.
	// ReportHealth must not block, and must not call methods of the Service. If it panics, the servers leave, and Serve panics.
	ReportHealth(h Health)
}

// Health says which services may be called.
type Health struct {
	// Serving has all services by name, and whether each may be called: it is ready, and its status is Passing or Warning.
	Serving map[string]bool
	// Leaving is true when the server begins to leave. Then no service may be called, and no further Health is reported.
	Leaving bool
}

// Package serve has the life cycle of servers: it serves them, registers them when they accept connections, and deregisters and stops them
// without a lost request. It is for HTTP and for any other server with the methods Serve, Shutdown and Close:
//
//	s := serve.Service{Registrar: reg, Instance: registry.Instance{Service: "greeter"}}
//	err := s.Serve(ctx, &http.Server{Handler: handler}, lis)
//
// Package grpcx does the same for gRPC servers, and is a layer over this package. A process that has both uses one of two:
//
//   - grpcx.Server, with the HTTP server in Endpoints, if the instance has the address of the gRPC server;
//   - Service, with grpcx.AsServer in Endpoints, if the instance has the address of the HTTP server.
//
// Either way there is one registration, one drain and one exit. This package does not import gRPC.
//
// # HTTP
//
// An *http.Server is passed as it is. Serve wraps its Handler, so do not change Handler afterwards.
//
//   - TLS: pass tls.NewListener(lis, config). For HTTP/2, config.NextProtos is {"h2", "http/1.1"}. HTTP/2 without TLS needs
//     http.Server.Protocols.
//   - Keep-alive: once the service has left the registry, HTTP/1 responses have the header "Connection: close". When DrainDelay is over,
//     connections without a request are closed, and HTTP/2 clients get a GOAWAY.
//   - WebSockets and server-sent events: their handlers should return when [Service.Leaving] is closed. Serve waits for handlers with a
//     hijacked connection too, if the request has the header Upgrade or the method CONNECT.
//   - A Service is an http.Handler, which says whether it is ready: mux.Handle("/ready", &s).
//
// A frozen process cannot leave. Its entry expires after its TTL.
package serve

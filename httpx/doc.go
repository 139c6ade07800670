// Package httpx lets HTTP clients find instances through any [registry.Discovery], and spreads their requests over the instances.
//
//	client := httpx.NewClient(reg)
//	resp, err := client.Get("http://greeter/hello") // goes to an instance of greeter
//
// The client is an ordinary http.Client, so everything that takes one works with it, such as connect-go and httputil.ReverseProxy. [Transport]
// has the settings. The package does not import gRPC.
//
// # Which instances get requests
//
// Requests go to the instances that pass, by the rules of package grpcx. There are these exceptions:
//
//   - If few instances pass, requests go to the others too (PanicThreshold).
//   - After all instances have left the registry, existing connections are used for a while (EmptyGrace).
//   - An instance in maintenance gets no new requests.
//   - An instance with weight 0 or less gets requests only if no other instance can be reached.
//
// Whether an instance is dialled depends on more than its health. An instance that does not pass may be alive, or its address may belong to
// another service by now:
//
//	instance                                          connected       connection broke    not connected
//	passes                                            used            dialled             dialled
//	passes, weight 0 or less                          only if no passing instance with a weight can be reached
//	passes, outside of the Subset                     only if no instance of the subset passes or can be reached
//	does not pass, used by the panic threshold        used            not dialled         last resort
//	missing, but kept (StaleError.Withheld)           used            not dialled         last resort of a new service
//	has left the registry (EmptyGrace)                used            not dialled         not dialled
//	in maintenance, or was when it left               not used        not used            not used
//	any, while the registry cannot be reached         as in the last good set
//
// An instance in StaleError.Withheld is missing from the newest set, or does not pass in it. The registry withholds that set, so readers
// keep the instance.
//
// A last resort is dialled only if no instance is connected and all attempts to reach passing instances have failed. If all connections
// to an instance that must not be dialled are busy, a request waits up to 5 s for one of them.
//
// A connection counts as broken if the peer or the network ends it, also if the peer does so because it was idle. So keep
// Base.IdleConnTimeout below the idle timeout of the servers: then instances that do not pass can be dialled as a last resort after a quiet
// time. A connection does not count as broken if this side closes it:
//
//   - after Base.IdleConnTimeout, or because a request on an HTTP/1 connection was cancelled;
//   - because the peer asks for it, by "Connection: close", by a GOAWAY or by the close_notify of TLS. A server without
//     keep-alive does so after each response, and could otherwise not be dialled while it does not pass. With TLS, the certificate
//     protects against another service at the address.
//
// # Outages
//
// The first request to a service begins to watch it. All Transports, channels of grpcx and other readers of one [registry.Registry] share one
// watch for each query. While the registry is away, the last good set serves. A service that is unknown or has no instance fails at once,
// with an error that names the service and the registry. A service that gets no requests is let go after IdleTimeout, and one without
// instances after 30 s; at most 100 services without instances are watched at a time. So a gateway that takes the name of the service from
// its clients may be asked for any number of names.
//
// # Retries
//
// A request is sent again only if that is safe:
//
//   - If no connection could be made, it is tried on another instance, with any method, until each instance was tried. Nothing of it
//     was sent, and nothing of its body was read. This does not count as an attempt.
//   - If the connection is lost before the response header came, it is sent to another instance if its method is idempotent (GET, HEAD, OPTIONS,
//     TRACE, PUT, DELETE) or it has the header Idempotency-Key, and if its body is unread or it has a GetBody. If there is only one
//     instance, it is sent there again, after 50 ms the second time. MaxAttempts and RetryBudget limit this.
//   - After a response began, never. A status such as 503 is a response.
//   - If the body of the request or GetBody fails, never. That does not count against the instance either.
//
// So a POST is never executed twice, unless it has an Idempotency-Key. The context of a request ends all of this at any time. net/http itself
// sends a GET, HEAD, OPTIONS or TRACE, or a request with an Idempotency-Key, again if an idle connection turns out to be closed.
//
// An attempt to connect may take 5 s, TLS included. An instance that cannot be dialled is left out for 1 s, then 2 s and so on up to 30 s. After
// that one request tries it. No more instances are left out than PanicThreshold allows. An instance that passes again after it did not,
// or has a new ID, is tried at once.
//
// # Connections
//
// Each instance has connections of its own. When it leaves the registry, idle connections are closed at once, and busy ones when their
// requests have ended. A request has ended when its response body was read to the end or closed. The Host header and the name that the
// certificate must be for are the service, so a certificate for the service also protects against a service that took over an
// address. Request.Host, TLSName and TLSClientConfig.ServerName replace them. HTTP/2 is used as Base says: by default with TLS if the server
// knows it; without TLS if Base.Protocols has UnencryptedHTTP2 and not HTTP1. Upgraded connections, such as WebSockets, work.
//
// # Policies
//
// round_robin goes round all instances. weighted gives each instance its share by weight. zone prefers the client's own zone, and p2c calls
// the faster of two random instances. Packages grpcx/weighted, grpcx/zone and grpcx/p2c explain them. For zone, an instance counts as ready
// unless it is left out. For p2c, the time until the response header is measured; the statuses 502, 503 and 504, timeouts and lost
// connections count as slow answers.
//
// Errors of this package are *[registry.Error].
package httpx

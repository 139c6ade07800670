package grpcx

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/rollcall-go/rollcall/internal/fieldnames"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// Defaults of [Server].
const (
	DefaultDrainDelay        = serve.DefaultDrainDelay
	DefaultStopTimeout       = serve.DefaultStopTimeout
	DefaultDeregisterTimeout = serve.DefaultDeregisterTimeout
)

// GRPCServer is what [Server] needs of a gRPC server. *grpc.Server and *xds.GRPCServer implement it.
//
// A *grpc.Server that is used as an http.Handler needs an adapter with the methods of its http.Server, since GracefulStop of
// *grpc.Server cuts calls that came through ServeHTTP. The example "Server.Serve (HttpHandler)" shows one. Serve of an implementation must
// return nil, grpc.ErrServerStopped or http.ErrServerClosed after Stop or GracefulStop.
type GRPCServer interface {
	grpc.ServiceRegistrar
	// GetServiceInfo returns the registered services by name.
	GetServiceInfo() map[string]grpc.ServiceInfo
	// Serve accepts connections and blocks until a stop or a failure of the listener.
	Serve(net.Listener) error
	// Stop ends all calls and closes all listeners and connections.
	Stop()
	// GracefulStop accepts no new calls and blocks until those in progress have ended.
	GracefulStop()
}

// Server serves a gRPC server, registers it, and deregisters and stops it gracefully. Set the fields, then call Serve.
//
// The fields must not change while Serve runs. A Server must not be copied after the first call of a method. The methods may be called
// at any time and by several goroutines.
type Server struct {
	// Registrar registers the server. Required.
	Registrar registry.Registrar
	// Instance is the instance to register. Instance.Service is required. [serve.Service] has the rule for Instance.Address, which may be
	// empty: by default the address of the listener is advertised, or the address of this host if it listens on all addresses.
	Instance registry.Instance
	// More has further services to register for the same server. The rules for Instance apply to each of them.
	More []registry.Instance
	// Listeners has further listeners that gs serves, by name. Each is registered as an endpoint of that name, for every service. Its
	// host follows the rules for the host in Instance.Address.
	Listeners map[string]net.Listener
	// Endpoints has further servers in the same process, such as an *http.Server, each with its listener, by name. They are registered,
	// drained and stopped together with gs. Each is an endpoint of its name, as those in Listeners are. [serve.Service] says what it does
	// with an *http.Server.
	Endpoints map[string]serve.Endpoint
	// Interface is the name of the network interface whose address is advertised, such as eth0. If it has several addresses, the first
	// IPv4 address is used, or the first IPv6 address if it has no IPv4 address and the listener accepts IPv6. Default: none.
	Interface string
	// Health is the health service that the caller has registered with gs. Its statuses follow the registrations. Default: if gs has
	// no health service, Serve registers one; otherwise Serve leaves the existing one alone.
	Health *health.Server
	// Logger receives a line for each step, with its duration. Default: [slog.Default].
	Logger *slog.Logger
	// DrainDelay is how long the server goes on serving after it has told the registry that it leaves. Meanwhile its clients learn
	// of it. Default: 1 s. Negative: none.
	//
	// The server tells the registry twice: it first sets the status Maintenance, and deregisters after half of DrainDelay, but at most
	// 1 s. So a reader can tell a server that left on purpose from a server that was lost. If the registry does not accept the status, or
	// DrainDelay is negative, the server deregisters at once.
	DrainDelay time.Duration
	// StopTimeout is how long calls may take to finish after DrainDelay, before they are cut. Default: 30 s. Negative: calls are cut at
	// once.
	//
	// In either case gRPC first waits for connections whose handshake has not ended, for example because the peer has sent nothing yet.
	// [grpc.ConnectionTimeout] bounds that wait, which is 2 minutes by default. Set it to a few seconds if strangers can reach the server.
	StopTimeout time.Duration
	// DeregisterTimeout is how long leaving the registry may take, without the pause between Maintenance and the deregistration. A fifth
	// of it is for setting Maintenance. After it the server stops all the same, and its entry expires. Default: 5 s. Negative is an error.
	DeregisterTimeout time.Duration
	// Signals start the graceful stop. A second signal cuts the remaining calls at once; if Drain was called before, it takes two signals
	// to do so. Default: SIGINT and SIGTERM. Empty and not nil: none.
	Signals []os.Signal

	state *serverState // created by the first call of a method
}

// Serve serves gs on lis and Listeners, and the servers of Endpoints, registers them, and blocks until they have stopped:
//
//  1. It serves, and sets the gRPC health of each service to SERVING (unless NotReady was called).
//  2. It registers as soon as all listeners accept connections. If that fails, the server serves all the same: Serve retries, and logs a
//     line each minute.
//  3. When ctx ends or a signal arrives, it closes [Server.Leaving], sets health to NOT_SERVING, sets the status Maintenance, and
//     deregisters after a pause that is part of DrainDelay.
//  4. It goes on serving for the rest of DrainDelay.
//  5. It stops gracefully. After StopTimeout it cuts the calls that are left.
//
// Serve returns nil if it was ended by ctx, by a signal, or because the caller has stopped gs or another server. If ctx has ended before
// the call, Serve serves and registers nothing. All errors are *[registry.Error], and wrap
//
//   - [registry.ErrInvalid] if a field cannot be used. The error names each such field, and nothing is served.
//   - [registry.ErrClosed] if gs or another server was stopped before the call.
//   - the error of a server or listener that fails, after steps 3 to 5.
//   - the error of a registrar that can never work ([registry.ErrInvalid], [registry.ErrUnsupported] or [registry.ErrClosed]), after
//     steps 3 to 5.
//
// If a method of a server, of a listener or of the registrar panics, Serve panics after steps 3 to 5, with a string that has the value and
// the stack of the first such panic.
//
// In every case all servers are stopped and all listeners are closed when Serve returns. A handler or a registrar that ignores its context
// may still run; if such a registrar registers late, the server deregisters.
//
// Call Serve once for each gs, with all services registered on gs, and before gs serves anything. One Server may serve several gs at once,
// each with its own listeners and its own Health.
//
// A process that is frozen cannot leave: see "Servers that freeze" in the doc of this package.
func (s *Server) Serve(ctx context.Context, gs GRPCServer, lis net.Listener) error {
	names := fieldnames.Names{Type: "Server", Server: "gs", Services: "More", Listener: s.listenerField}
	state := s.sharedState()
	service := state.service // a copy, which shares readiness and the servers in progress
	service.Registrar, service.Instance, service.Services = s.Registrar, s.Instance, s.More
	service.Interface, service.Logger, service.Signals = s.Interface, s.Logger, s.Signals
	service.DrainDelay, service.StopTimeout, service.DeregisterTimeout = s.DrainDelay, s.StopTimeout, s.DeregisterTimeout
	service.Endpoints, names.Invalid = s.allEndpoints()
	var srv serve.Server
	if gs != nil {
		srv = &grpcServer{gs: gs, health: s.Health, given: &state.given}
	}
	return service.Serve(fieldnames.With(ctx, names), srv, lis)
}

// allEndpoints returns Listeners and Endpoints. A name that is in both is invalid, and its listener in Listeners is closed.
func (s *Server) allEndpoints() (map[string]serve.Endpoint, []error) {
	all := maps.Clone(s.Endpoints)
	var invalid []error
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		lis := s.Listeners[name]
		if _, taken := s.Endpoints[name]; taken {
			invalid = append(invalid, fmt.Errorf("%w: Server.Endpoints[%q] is given, and a listener of that name too", registry.ErrInvalid, name))
			if lis != nil {
				lis.Close()
			}
			continue
		}
		if all == nil {
			all = map[string]serve.Endpoint{}
		}
		all[name] = serve.Endpoint{Listener: lis} // served by gs
	}
	return all, invalid
}

func (s *Server) listenerField(endpoint string) string {
	if _, ok := s.Endpoints[endpoint]; ok {
		return fieldnames.Service.Listener(endpoint)
	}
	return fmt.Sprintf("Listeners[%q]", endpoint)
}

// serverState is shared by the methods of a Server and its calls of Serve.
type serverState struct {
	service serve.Service // without fields, since they may change from one Serve to the next
	given   givenHealth
}

// creating guards the creation of states: a Server has no constructor, and may be copied before it is used.
var creating sync.Mutex

func (s *Server) sharedState() *serverState {
	creating.Lock()
	defer creating.Unlock()
	if s.state == nil {
		s.state = new(serverState)
		s.state.service.Leaving() // from now on, copies of service share what it knows
	}
	return s.state
}

// Leaving returns a channel that is closed when the server begins to leave, before anything else happens. Handlers of long streams should
// end them then, since gRPC waits for them. The reason to leave may be the end of Serve's ctx, a signal, Drain, or an error of Serve.
//
// Leaving does not block, and may be called before Serve. If one Server serves several gs at once, the channel is closed when the first of
// them begins to leave. A Serve that begins after all others have returned has a new channel.
func (s *Server) Leaving() <-chan struct{} { return s.sharedState().service.Leaving() }

// Registrations returns the registrations that have succeeded, in the order of Instance and More. It is empty before the first one, and
// after Serve has returned. If one Server serves several gs at once, it has the registrations of all. Registrations does not block. The
// caller owns the slice.
//
// Err of a registration says whether the service is registered now. Deregister removes the service, while the server goes on serving.
// Update changes what is registered, such as the weight, and may be called at any time. The server itself changes the status only:
//
//   - While a service is not ready, or leaves, an Update is written with the status Critical or Maintenance.
//   - When the service is ready again, the server restores the status of the newest Update.
//   - The status of an Update does not change gRPC health. [Server.Ready] and [Server.NotReady] do.
func (s *Server) Registrations() []registry.Registration {
	return s.sharedState().service.Registrations()
}

// Drain leaves the registry and sends clients away as the end of Serve does, and returns when DrainDelay is over. The server goes on
// serving. Drain is for a preStop hook: when Serve's ctx ends or a signal arrives after it, the server only lets calls finish.
//
// A second call waits for the first. If one Server serves several gs at once, Drain drains all of them. Drain returns
//
//   - nil at once if Serve has returned;
//   - a *[registry.Error] that wraps [registry.ErrUnavailable] if Serve was not called yet;
//   - ctx's error if ctx ends first. The server goes on draining.
func (s *Server) Drain(ctx context.Context) error {
	service := s.sharedState().service
	service.Instance = s.Instance // for errors
	return service.Drain(ctx)
}

// Ready declares that the named services, or all services if none is named, may be called: their gRPC health is SERVING, and they are
// registered with the status in Instance, or in the newest Update of their registration. A server is ready from the start unless NotReady
// was called before Serve.
//
// Ready does not block, and may be called at any time. The registry gets the status as soon as it can be reached. Ready ignores names that
// are not services of this server, and has no effect once the server leaves.
func (s *Server) Ready(services ...string) { s.sharedState().service.Ready(services...) }

// NotReady is the opposite of [Server.Ready]: gRPC health is NOT_SERVING, and the status in the registry is Critical, or Maintenance if
// the service had that status before. The health of the server as a whole is NOT_SERVING if all its services are.
//
// Calls in progress go on. Clients still call an instance that is not ready if too few of the others are (ResolverConfig.PanicThreshold).
// Use Drain to send all clients away.
func (s *Server) NotReady(services ...string) { s.sharedState().service.NotReady(services...) }

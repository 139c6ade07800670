package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/registry"
)

// Defaults of [Service].
const (
	DefaultDrainDelay        = time.Second
	DefaultStopTimeout       = 30 * time.Second
	DefaultDeregisterTimeout = 5 * time.Second
)

// Service serves one or several servers, registers them, and deregisters and stops them gracefully. Set the fields, then call Serve.
//
// The fields must not change while Serve runs. The methods may be called at any time and by several goroutines. A copy that is made before
// the first call of a method is a Service of its own. A later copy shares readiness, Leaving and the servers in progress with the original.
type Service struct {
	// Registrar registers the services. Required.
	Registrar registry.Registrar
	// Instance is the instance to register. Instance.Service is required.
	//
	// If Instance.Address has a host and a port, it is the advertised address. This is for servers that clients reach at another
	// address than their own. A missing port, or port 0, is replaced by the port of the listener. A missing or wildcard host is replaced by
	// the first of these that exists:
	//
	//   - the IP address of the listener, if it listens on one address only;
	//   - the environment variable ROLLCALL_HOST, or else POD_IP: an IP address or a host name;
	//   - the address of Interface;
	//   - the local address used to reach the registry, as [registry.Registrar] says.
	Instance registry.Instance
	// Services has further services to register for the same servers. The rules for Instance apply to each of them.
	Services []registry.Instance
	// Endpoints has further listeners, by name, each with its server. Each is registered as an endpoint of that name, for every service.
	// Its host follows the rules for the host in Instance.Address.
	Endpoints map[string]Endpoint
	// Interface is the name of the network interface whose address is advertised, such as eth0. If it has several addresses, the first
	// IPv4 address is used, or the first IPv6 address if it has no IPv4 address and the listener accepts IPv6. Default: none.
	Interface string
	// Logger receives a line for each step, with its duration. Default: [slog.Default].
	Logger *slog.Logger
	// DrainDelay is how long the servers go on serving after the registry was told that they leave. Meanwhile their clients learn of it.
	// Default: 1 s. Negative: none.
	//
	// The registry is told twice: the status is set to Maintenance first, and the services are deregistered after half of DrainDelay, but
	// at most 1 s. So a reader can tell a server that left on purpose from a server that was lost. If the registry does not accept the
	// status, or DrainDelay is negative, the services are deregistered at once.
	DrainDelay time.Duration
	// StopTimeout is how long requests may take to finish after DrainDelay, before they are cut. Default: 30 s. Negative: they are cut at
	// once. Connections on which nothing was sent yet count as requests, in an *http.Server for 5 s.
	StopTimeout time.Duration
	// DeregisterTimeout is how long leaving the registry may take, without the pause between Maintenance and the deregistration. A fifth
	// of it is for setting Maintenance. After it the servers stop all the same, and the entry expires. Default: 5 s. Negative is an error.
	DeregisterTimeout time.Duration
	// Signals start the graceful stop. A second signal cuts the remaining requests at once; if Drain was called before, it takes two
	// signals to do so. Default: SIGINT and SIGTERM. Empty and not nil: none.
	Signals []os.Signal

	state *serviceState // created by the first call of a method
}

// Serve serves srv on lis, and Endpoints, registers them, and blocks until all have stopped:
//
//  1. It serves.
//  2. It registers as soon as all servers accept connections. If that fails, they serve all the same: Serve retries, and logs a line
//     each minute.
//  3. When ctx ends or a signal arrives, it closes [Service.Leaving], sets the status Maintenance, and deregisters after a pause that is
//     part of DrainDelay.
//  4. It goes on serving for the rest of DrainDelay. Meanwhile an *http.Server answers HTTP/1 requests with "Connection: close", so that
//     clients that have not heard from the registry move their connections.
//  5. It shuts all servers down. That closes connections without a request. After StopTimeout it cuts the requests that are left.
//
// Serve returns nil if it was ended by ctx, by a signal, or because the caller has stopped a server. If ctx has ended before the call,
// Serve serves and registers nothing. All errors are *[registry.Error], and wrap
//
//   - [registry.ErrInvalid] if a field cannot be used. The error names each such field, and nothing is served.
//   - [registry.ErrClosed] if a server was stopped before the call.
//   - the error of a server that fails, after steps 3 to 5.
//   - the error of a registrar that can never work ([registry.ErrInvalid], [registry.ErrUnsupported] or [registry.ErrClosed]), after
//     steps 3 to 5.
//
// If a method of a server, of a listener or of the registrar panics, Serve panics after steps 3 to 5, with a string that has the value and
// the stack of the first such panic. A panic of a handler is the server's: an *http.Server logs it and goes on.
//
// In every case all servers are stopped and all listeners are closed when Serve returns. A handler or a registrar that ignores its context
// may still run; if such a registrar registers late, Serve deregisters.
//
// Call Serve once for each srv, and before srv serves anything. Serve wraps the Handler of an *http.Server. One Service may serve several
// srv at once, each with its own listeners.
func (s *Service) Serve(ctx context.Context, srv Server, lis net.Listener) error {
	run, err := s.prepare(ctx, srv, lis)
	if err != nil {
		s.sharedState().refuse()
		s.close(srv, lis)
		return failure.New(opServe, s.Instance.Service, err)
	}
	return run.serveAndLeave(ctx)
}

// The operations of Service that errors name.
const (
	opServe = "serve"
	opDrain = "drain"
)

// Leaving returns a channel that is closed when the servers begin to leave, before anything else happens. Handlers of WebSockets, of
// server-sent events and of other long requests should end them then, since Serve waits for them until StopTimeout. The reason to leave
// may be the end of Serve's ctx, a signal, Drain, or an error of Serve.
//
// Leaving does not block, and may be called before Serve. If one Service serves several srv at once, the channel is closed when the first
// of them begins to leave. A Serve that begins after all others have returned has a new channel.
func (s *Service) Leaving() <-chan struct{} {
	state := s.sharedState()
	state.mu.Lock()
	defer state.mu.Unlock()
	return state.leaving
}

// Registrations returns the registrations that have succeeded, in the order of Instance and Services. It is empty before the first one,
// and after Serve has returned. If one Service serves several srv at once, it has the registrations of all. Registrations does not block.
// The caller owns the slice.
//
// Err of a registration says whether the service is registered now. Deregister removes the service, while the servers go on serving.
// Update changes what is registered, such as the weight, and may be called at any time. The Service itself changes the status only:
//
//   - While a service is not ready, or leaves, an Update is written with the status Critical or Maintenance.
//   - When the service is ready again, the Service restores the status of the newest Update.
//   - The status of an Update does not change [Health]. [Service.Ready] and [Service.NotReady] do.
func (s *Service) Registrations() []registry.Registration {
	state := s.sharedState()
	state.mu.Lock()
	defer state.mu.Unlock()
	var all []registry.Registration
	for _, run := range state.runs {
		for _, r := range run.registered {
			if r != nil {
				all = append(all, r)
			}
		}
	}
	return all
}

// Drain leaves the registry and sends clients away as the end of Serve does, and returns when DrainDelay is over. The servers go on
// serving. Drain is for a preStop hook: when Serve's ctx ends or a signal arrives after it, Serve only lets requests finish.
//
// A second call waits for the first. If one Service serves several srv at once, Drain drains all of them. Drain returns
//
//   - nil at once if Serve has returned;
//   - a *[registry.Error] that wraps [registry.ErrUnavailable] if Serve was not called yet;
//   - ctx's error if ctx ends first. The servers go on draining.
func (s *Service) Drain(ctx context.Context) error {
	state := s.sharedState()
	state.mu.Lock()
	begun, runs := state.begun, slices.Clone(state.runs)
	if len(runs) > 0 {
		state.closeLeaving()
	}
	for _, run := range runs {
		run.askDrain()
	}
	state.mu.Unlock()
	if !begun {
		return failure.New(opDrain, s.Instance.Service, fmt.Errorf("%w: Serve was not called yet", registry.ErrUnavailable))
	}
	for _, run := range runs {
		select {
		case <-run.drained: // also if ctx has ended
			continue
		default:
		}
		select {
		case <-run.drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Ready declares that the named services, or all services if none is named, may be called: their [Health] says so, and they are registered
// with the status in Instance, or in the newest Update of their registration. A Service is ready from the start unless NotReady was called
// before Serve.
//
// Ready does not block, and may be called at any time. The registry gets the status as soon as it can be reached. Ready ignores names that
// are not services of this Service, and has no effect once the servers leave.
func (s *Service) Ready(services ...string) { s.sharedState().setReady(true, services) }

// NotReady is the opposite of [Service.Ready]: [Health] says that the services may not be called, and their status in the registry is
// Critical, or Maintenance if the service had that status before.
//
// Requests in progress go on. Clients may still call an instance that is not ready if too few of the others are, as clients of
// packages grpcx and httpx do. Use Drain to send all clients away.
func (s *Service) NotReady(services ...string) { s.sharedState().setReady(false, services) }

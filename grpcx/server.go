package grpcx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/registry"
)

// Defaults of [Server].
const (
	DefaultDrainDelay        = time.Second
	DefaultStopTimeout       = 30 * time.Second
	DefaultDeregisterTimeout = 5 * time.Second
)

// GRPCServer is what [Server] needs of a gRPC server: *grpc.Server is one, and *xds.GRPCServer.
type GRPCServer interface {
	grpc.ServiceRegistrar
	GetServiceInfo() map[string]grpc.ServiceInfo
	Serve(net.Listener) error
	Stop()
	GracefulStop()
}

// Server is the life of a gRPC server that announces itself. Set the fields, then call Serve; do not change them while it
// runs, nor copy the Server after its first call.
type Server struct {
	// Registrar is where the server announces itself. Required.
	Registrar registry.Registrar
	// Instance is what it announces; Service is required. What is announced as its Address is, in this order,
	//
	//   - Address, where that has a host and a port: as when clients reach the server by another address than its own;
	//   - the host that is given in Address, or else that of the listener where it listens on one alone; or else the
	//     environment variable ROLLCALL_HOST, or else POD_IP, an IP address or a host name; or else the address of
	//     Interface; or else the address of this host that faces the registry;
	//   - the port that is given in Address, or else that of the listener.
	Instance registry.Instance
	// More are further services that the same server announces. The rule for Address holds for each.
	More []registry.Instance
	// Listeners are further ones that the same gRPC server serves. Each is announced as an endpoint of that name, of every
	// service, whose host is found as that of Address.
	Listeners map[string]net.Listener
	// Interface is the name of the network interface whose address is announced, such as eth0: of several the first, of IPv4
	// before IPv6, which is only for a listener that takes it. Default: none.
	Interface string
	// Health is the health service that the caller has registered with the server, so that its status follows what is
	// announced. Default: one is registered where there is none; one that is there already, and not given here, is the
	// caller's business.
	Health *health.Server
	// Logger receives each step, and how long it took. Default: [slog.Default].
	Logger *slog.Logger
	// DrainDelay is how long the server goes on serving after it has left the registry, for the news to reach its clients.
	// Default: 1 s. Negative: none.
	DrainDelay time.Duration
	// StopTimeout is how long calls may take to finish after that, before they are cut. Default: 30 s. Negative: they are
	// cut at once. In either case gRPC first waits for connections whose handshake is not over, such as those over which a
	// peer has said nothing yet, and for no longer than [grpc.ConnectionTimeout], which is 2 minutes by default: a server
	// that strangers can reach is best made with a few seconds.
	StopTimeout time.Duration
	// DeregisterTimeout is how long leaving the registry may take. The server goes on to stop after it; its entry then
	// expires. Default: 5 s. Negative is refused.
	DeregisterTimeout time.Duration
	// Signals start the graceful stop. One that arrives after it has started, whatever has started it but Drain, cuts what
	// is left at once. Default: SIGINT and SIGTERM. Empty and not nil: none.
	Signals []os.Signal

	controls *control // made by the first call of a method
}

// Serve serves gs on lis, and on Listeners, announces it, and blocks until it has stopped. Its steps are
//
//  1. serve, and set the health of each service of gs, and of each that is announced, to SERVING (see NotReady);
//  2. register. While the registry cannot be reached, or denies it, that is tried again and the server serves meanwhile;
//  3. when ctx ends or a signal arrives: health NOT_SERVING, stop registering, and deregister;
//  4. go on serving for DrainDelay;
//  5. stop gracefully for StopTimeout, then cut what is left.
//
// It returns nil when ctx, a signal or the caller's own gs.Stop or gs.GracefulStop ended it; ctx's error is not returned.
// It returns the error of a listener where one fails, and of the registrar where it can never work ([registry.ErrInvalid],
// [registry.ErrClosed]), in both cases after the steps from 3 on: who is connected is served until then. A listener that
// panics does so again, from Serve, after these steps. A field that cannot be used is [registry.ErrInvalid], and nothing is
// served.
//
// gs and all listeners are stopped and closed when it returns, in any case. A handler that heeds no context may still run
// then, and so may a registrar that heeds none; what such a registrar announces late is deregistered. Call it once for each
// gs, with all services registered.
func (s *Server) Serve(ctx context.Context, gs GRPCServer, lis net.Listener) error {
	l, err := s.prepare(gs, lis)
	if err != nil {
		lis.Close()
		for _, further := range s.Listeners {
			if further != nil {
				further.Close()
			}
		}
		gs.Stop()
		return fmt.Errorf("rollcall: serve %s: %w", s.Instance.Service, err)
	}
	return l.run(ctx)
}

// prepare checks everything, and returns the life that is to be.
func (s *Server) prepare(gs GRPCServer, lis net.Listener) (*life, error) {
	s.control()
	l := &life{
		Server: *s, gs: gs, listeners: []net.Listener{lis}, signals: make(chan os.Signal, 2),
		served: make(chan struct{}), stopped: make(chan struct{}), asked: make(chan struct{}), drained: make(chan struct{}),
	}
	if s.Registrar == nil {
		return nil, fmt.Errorf("%w: Server.Registrar: is required", registry.ErrInvalid)
	}
	if s.DeregisterTimeout < 0 {
		return nil, fmt.Errorf("%w: Server.DeregisterTimeout: %v is negative", registry.ErrInvalid, s.DeregisterTimeout)
	}
	l.DeregisterTimeout = cmp.Or(s.DeregisterTimeout, DefaultDeregisterTimeout)
	l.DrainDelay = cmp.Or(s.DrainDelay, DefaultDrainDelay)
	l.StopTimeout = cmp.Or(s.StopTimeout, DefaultStopTimeout)
	if s.Signals == nil {
		l.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		if s.Listeners[name] == nil {
			return nil, fmt.Errorf("%w: Server.Listeners[%q]: is nil", registry.ErrInvalid, name)
		}
		l.listeners = append(l.listeners, s.Listeners[name])
	}
	if err := l.fillInstances(lis); err != nil {
		return nil, err
	}
	log := s.Logger
	if log == nil {
		log = slog.Default()
	}
	l.Logger = log.With("service", l.Instance.Service, "address", lis.Addr().String())
	l.plain = log
	if _, own := gs.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]; !own {
		if l.Health == nil {
			l.Health = health.NewServer()
		}
		healthpb.RegisterHealthServer(gs, l.Health)
	}
	return l, nil
}

// fillInstances makes all instances complete, and names every field that cannot be used.
func (l *life) fillInstances(lis net.Listener) error {
	var errs []error
	seen := map[string]bool{}
	for i, in := range append([]registry.Instance{l.Instance}, l.More...) {
		field := "Instance"
		if i > 0 {
			field = fmt.Sprintf("More[%d]", i-1)
		}
		in := *in.Clone()
		errs = append(errs, l.fill(&in, field, lis))
		if seen[in.Service] {
			errs = append(errs, fmt.Errorf("%w: Server.%s.Service: %q is there twice", registry.ErrInvalid, field, in.Service))
		}
		seen[in.Service] = true
		l.instances = append(l.instances, in)
	}
	return errors.Join(errs...)
}

// fill makes one instance complete.
func (l *life) fill(in *registry.Instance, field string, lis net.Listener) (err error) {
	if in.Address, err = l.announced(in.Address, field+".Address", lis.Addr()); err != nil {
		return err
	}
	for name, further := range l.Listeners {
		if in.Endpoints[name] != "" {
			return fmt.Errorf("%w: Server.%s.Endpoints[%q]: is there, and a listener of that name", registry.ErrInvalid, field, name)
		}
		if in.Endpoints == nil {
			in.Endpoints = map[string]string{}
		}
		if in.Endpoints[name], err = l.announced("", fmt.Sprintf("Listeners[%q]", name), further.Addr()); err != nil {
			return err
		}
	}
	if err := in.Validate(); err != nil {
		return fmt.Errorf("grpcx: Server.%s: %w", field, err)
	}
	return nil
}

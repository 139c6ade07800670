package grpcx

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
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

// Server is the life of a gRPC server that announces itself. Set the fields, then call Serve; do not change them while it
// runs.
type Server struct {
	// Registrar is where the server announces itself. Required.
	Registrar registry.Registrar
	// Instance is what it announces; Service is required. An empty Address becomes that of the listener, a port that is
	// empty or 0 becomes the listener's, and a wildcard host becomes the address of this host that faces the registry.
	Instance registry.Instance
	// Health is the health service that the caller has registered with the server, so that its status follows what is
	// announced. Default: one is registered where there is none; one that is there already, and not given here, is the
	// caller's business.
	Health *health.Server
	// Logger receives each step. Default: [slog.Default].
	Logger *slog.Logger
	// DrainDelay is how long the server goes on serving after it has left the registry, for the news to reach its clients.
	// Default: 1 s. Negative: none.
	DrainDelay time.Duration
	// StopTimeout is how long calls may take to finish after that, before they are cut. Default: 30 s. Negative: they are
	// cut at once.
	StopTimeout time.Duration
	// DeregisterTimeout is how long leaving the registry may take. The server goes on to stop after it; its entry then
	// expires. Default: 5 s. Negative is refused.
	DeregisterTimeout time.Duration
	// Signals start the graceful stop. One that arrives after it has started, whatever has started it, cuts what is left at
	// once. Default: SIGINT and SIGTERM. Empty and not nil: none.
	Signals []os.Signal
}

// Serve serves gs on lis, announces it, and blocks until it has stopped. Its steps are
//
//  1. serve, and set the health of each service of gs to SERVING;
//  2. register. While the registry cannot be reached, or denies it, that is tried again and the server serves meanwhile;
//  3. when ctx ends or a signal arrives: health NOT_SERVING, stop registering, and deregister;
//  4. go on serving for DrainDelay;
//  5. stop gracefully for StopTimeout, then cut what is left.
//
// It returns nil when ctx, a signal or the caller's own gs.Stop or gs.GracefulStop ended it; ctx's error is not returned.
// It returns the error of the listener where that fails, and of the registrar where it can never work ([registry.ErrInvalid],
// [registry.ErrClosed]), in both cases after the steps from 3 on: who is connected is served until then. A field that
// cannot be used is [registry.ErrInvalid], and nothing is served.
//
// gs and lis are stopped and closed when it returns, in any case. A handler that heeds no context may still run then, and
// so may a registrar that heeds none; what such a registrar announces late is deregistered. Call it once for each gs, with
// all services registered.
func (s *Server) Serve(ctx context.Context, gs *grpc.Server, lis net.Listener) error {
	l, err := s.prepare(gs, lis)
	if err != nil {
		lis.Close()
		gs.Stop()
		return fmt.Errorf("rollcall: serve %s: %w", s.Instance.Service, err)
	}
	return l.run(ctx)
}

// prepare checks everything, and returns the life that is to be.
func (s *Server) prepare(gs *grpc.Server, lis net.Listener) (*life, error) {
	l := &life{
		Server: *s, gs: gs, lis: lis,
		signals: make(chan os.Signal, 2), served: make(chan struct{}),
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
	address, err := announcedAddress(s.Instance.Address, lis.Addr())
	if err != nil {
		return nil, err
	}
	l.Instance = *s.Instance.Clone()
	l.Instance.Address = address
	if err := l.Instance.Validate(); err != nil {
		return nil, err
	}
	log := s.Logger
	if log == nil {
		log = slog.Default()
	}
	l.Logger = log.With("service", l.Instance.Service, "address", lis.Addr().String())
	if _, own := gs.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]; !own {
		if l.Health == nil {
			l.Health = health.NewServer()
		}
		healthpb.RegisterHealthServer(gs, l.Health)
	}
	return l, nil
}

// announcedAddress fills what is missing in an address from the listener's.
func announcedAddress(address string, listener net.Addr) (string, error) {
	tcp, ok := listener.(*net.TCPAddr)
	if address == "" {
		if !ok {
			return "", fmt.Errorf("%w: Instance.Address: is required, since the listener's, %q, is none that clients could dial", registry.ErrInvalid, listener)
		}
		host := ""
		if len(tcp.IP) > 0 {
			host = tcp.IP.String()
		}
		return net.JoinHostPort(host, fmt.Sprint(tcp.Port)), nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && ok && (port == "" || port == "0") {
		return net.JoinHostPort(host, fmt.Sprint(tcp.Port)), nil
	}
	return address, nil // Validate says what is wrong with it
}

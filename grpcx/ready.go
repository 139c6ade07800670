package grpcx

import (
	"context"
	"errors"
	"slices"
	"sync"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/registry"
)

// Ready says that the services named, or all where there are none, may be called: their gRPC health is SERVING, and they
// are announced with the status of their Instance. A server is ready from the start unless NotReady was called before
// Serve. It does not block, and may be called at any time; the registry has the news as soon as it can be reached. A name
// that is not a service of this server has no effect.
func (s *Server) Ready(services ...string) { s.control().set(true, services) }

// NotReady is the opposite of [Server.Ready]: gRPC health says NOT_SERVING, and the status is Critical. Nothing is cut, and
// a client calls an instance that is not ready where too few of the others are (see ResolverConfig.PanicThreshold); to send
// everybody away is what Drain is for. The health of the server as a whole is NOT_SERVING when that of all services is.
func (s *Server) NotReady(services ...string) { s.control().set(false, services) }

// Drain leaves the registry and sends clients away as the end of Serve does, up to DrainDelay, and returns when that is done;
// the server goes on serving. It is for a preStop hook: Serve's ctx or a signal, which follow, then find nothing left to do
// but to let calls finish. Whatever ended before it returns nil at once. It returns ctx's error where that ends first, and
// the draining goes on; and an error where Serve was not called yet. A second call waits for the first.
func (s *Server) Drain(ctx context.Context) error {
	c := s.control()
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	if running == nil {
		return errors.New("rollcall: drain: the server does not serve yet")
	}
	running.askDrain()
	select {
	case <-running.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// control is what the methods of a Server have in common with its run.
type control struct {
	mu       sync.Mutex
	notReady map[string]bool // by service; anyService is all that are not named
	changed  chan struct{}   // closed, and replaced, with each change
	running  *life
}

const anyService = ""

// creating guards the creation of controls: a Server has no constructor, and may be copied before it is used.
var creating sync.Mutex

func (s *Server) control() *control {
	creating.Lock()
	defer creating.Unlock()
	if s.controls == nil {
		s.controls = &control{notReady: map[string]bool{}, changed: make(chan struct{})}
	}
	return s.controls
}

func (c *control) set(ready bool, services []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(services) == 0 {
		clear(c.notReady)
		services = []string{anyService}
	}
	for _, name := range services {
		c.notReady[name] = !ready
	}
	if c.running != nil {
		c.running.setHealth(c.ready) // before anybody reads of it in the registry
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// ready reports whether a service is. c.mu is held.
func (c *control) ready(service string) bool {
	if not, ok := c.notReady[service]; ok {
		return !not
	}
	return !c.notReady[anyService]
}

// statusOf is what in is to be announced with, and a channel that is closed when that may have changed.
func (c *control) statusOf(in *registry.Instance) (registry.Status, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ready(in.Service) {
		return registry.Critical, c.changed
	}
	return in.Status, c.changed
}

// begin joins the control and a run.
func (c *control) begin(l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = l
	l.setHealth(c.ready)
}

// setHealth tells gRPC's health service. A client that asks for a service that was never named fails every call, so those
// of the gRPC server are named too; they follow the server as a whole.
func (l *life) setHealth(ready func(service string) bool) {
	if l.Health == nil {
		return
	}
	serving := func(in registry.Instance) bool {
		return ready(in.Service) && (in.Status == registry.Passing || in.Status == registry.Warning)
	}
	whole := slices.ContainsFunc(l.instances, serving)
	for name := range l.gs.GetServiceInfo() {
		l.Health.SetServingStatus(name, servingStatus(whole))
	}
	for _, in := range l.instances {
		l.Health.SetServingStatus(in.Service, servingStatus(serving(in)))
	}
	l.Health.SetServingStatus("", servingStatus(whole))
}

func servingStatus(serving bool) healthpb.HealthCheckResponse_ServingStatus {
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

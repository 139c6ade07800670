package serve

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/rollcall-go/rollcall/internal/advertise"
	"github.com/rollcall-go/rollcall/internal/fieldnames"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// prepare checks all fields of s, and returns a run with the defaults and the advertised addresses filled in.
func (s *Service) prepare(ctx context.Context, srv Server, lis net.Listener) (*serviceRun, error) {
	s.sharedState() // created before s is copied, since another goroutine may be about to create it
	run := &serviceRun{
		Service: *s, names: fieldnames.Of(ctx), signals: make(chan os.Signal, 2), accepting: make(chan struct{}), failed: make(chan error, 1), panicked: make(chan any, 1),
		serveEnded: make(chan struct{}), stopped: make(chan struct{}), drainAsked: make(chan struct{}), drained: make(chan struct{}),
		closing: make(chan struct{}),
	}
	if err := run.check(srv, lis); err != nil {
		return nil, err
	}
	run.DeregisterTimeout = cmp.Or(s.DeregisterTimeout, DefaultDeregisterTimeout)
	run.DrainDelay = cmp.Or(s.DrainDelay, DefaultDrainDelay)
	run.StopTimeout = cmp.Or(s.StopTimeout, DefaultStopTimeout)
	if s.Signals == nil {
		run.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	if err := run.completeInstances(lis); err != nil {
		return nil, err
	}
	run.addServers(srv, lis)
	run.registered = make([]*registration, len(run.instances))
	run.baseLogger = cmp.Or(s.Logger, slog.Default())
	run.Logger = run.baseLogger.With("service", run.Instance.Service, "address", lis.Addr().String())
	return run, nil
}

// close stops all servers and closes all listeners, of a Service that cannot be served.
func (s *Service) close(srv Server, lis net.Listener) {
	endpoints := append(slices.Collect(maps.Values(s.Endpoints)), Endpoint{srv, lis})
	for _, e := range endpoints {
		if e.Listener != nil {
			e.Listener.Close()
		}
	}
	for _, e := range endpoints {
		if e.Server != nil {
			e.Server.Close()
		}
	}
}

// addServers adds a served listener for lis and for each of Endpoints, and all servers once.
func (run *serviceRun) addServers(srv Server, lis net.Listener) {
	run.addListener(srv, lis, run.names.Server)
	for _, name := range slices.Sorted(maps.Keys(run.Endpoints)) {
		e := run.Endpoints[name]
		if e.Server == nil {
			run.addListener(srv, e.Listener, run.names.Server)
			continue
		}
		run.addListener(e.Server, e.Listener, fmt.Sprintf("Endpoints[%q].Server", name))
	}
	for i, server := range run.servers {
		if h, ok := server.(*http.Server); ok {
			wrapped := newHTTPServer(h, run.closing)
			run.servers[i] = wrapped
			for _, l := range run.listeners {
				if isSame(l.server, server) {
					l.server = wrapped
				}
			}
		}
	}
	run.running = slices.Clone(run.servers)
}

func (run *serviceRun) addListener(srv Server, lis net.Listener, field string) {
	run.listeners = append(run.listeners, &listener{Listener: lis, run: run, server: srv, field: field, accepted: make(chan struct{})})
	if !slices.ContainsFunc(run.servers, func(other Server) bool { return isSame(srv, other) }) {
		run.servers = append(run.servers, srv)
	}
}

// isSame reports whether a and b are one server. Values that Go cannot compare are different servers.
func isSame(a, b Server) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// check returns an error that names each field that is missing or cannot be used. completeInstances checks the instances.
func (run *serviceRun) check(srv Server, lis net.Listener) error {
	errs := slices.Clone(run.names.Invalid)
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{registry.ErrInvalid}, args...)...))
	}
	if srv == nil {
		refuse("%s is required", run.names.Server)
	}
	if lis == nil {
		refuse("lis is required")
	}
	if run.Registrar == nil {
		refuse("%s.Registrar is required", run.names.Type)
	}
	if run.DeregisterTimeout < 0 {
		refuse("%s.DeregisterTimeout: %v is negative", run.names.Type, run.DeregisterTimeout)
	}
	for _, name := range slices.Sorted(maps.Keys(run.Endpoints)) {
		if run.Endpoints[name].Listener == nil {
			refuse("%s.%s is nil", run.names.Type, run.names.Listener(name))
		}
	}
	return oneline.Join(errs...)
}

// completeInstances fills in the advertised addresses of all instances. Its error names every field that cannot be used.
func (run *serviceRun) completeInstances(lis net.Listener) error {
	var errs []error
	seen := map[string]bool{}
	for i, in := range append([]registry.Instance{run.Instance}, run.Services...) {
		field := "Instance"
		if i > 0 {
			field = fmt.Sprintf("%s[%d]", run.names.Services, i-1)
		}
		in := *in.Clone()
		errs = append(errs, run.completeInstance(&in, field, lis))
		if seen[in.Service] {
			errs = append(errs, fmt.Errorf("%w: %s.%s.Service: %q is there twice", registry.ErrInvalid, run.names.Type, field, in.Service))
		}
		seen[in.Service] = true
		run.instances = append(run.instances, in)
	}
	return oneline.Join(errs...)
}

func (run *serviceRun) completeInstance(in *registry.Instance, field string, lis net.Listener) (err error) {
	if in.Address, err = run.advertisedAddress(in.Address, field+".Address", lis.Addr()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(run.Endpoints)) {
		if in.Endpoints[name] != "" {
			return fmt.Errorf("%w: %s.%s.Endpoints[%q] is given, and a listener of that name too", registry.ErrInvalid, run.names.Type, field, name)
		}
		if in.Endpoints == nil {
			in.Endpoints = map[string]string{}
		}
		if in.Endpoints[name], err = run.advertisedAddress("", run.names.Listener(name), run.Endpoints[name].Listener.Addr()); err != nil {
			return err
		}
	}
	if err := in.Validate(); err != nil {
		return prefixFields(run.names.Type+"."+field+".", err)
	}
	return nil
}

// advertisedAddress returns the address that clients dial to reach a listener. [Service].Instance has the rules. address is what the caller
// has given for field.
func (run *serviceRun) advertisedAddress(address, field string, listener net.Addr) (string, error) {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok {
		if address == "" {
			return "", fmt.Errorf("%w: %s.%s is required, since clients cannot dial %q, the address of its listener",
				registry.ErrInvalid, run.names.Type, field, listener)
		}
		return address, nil
	}
	address, err := advertise.Listener(address, tcp, advertise.Interface{Name: run.Interface, Field: run.names.Type + ".Interface"})
	if err != nil {
		return "", fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return address, nil
}

// prefixFields returns err, of [registry.Instance.Validate], with the names of the fields as the caller of Serve writes them.
func prefixFields(prefix string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if ok && !slices.Contains(joined.Unwrap(), registry.ErrInvalid) {
		var errs []error
		for _, one := range joined.Unwrap() {
			errs = append(errs, prefixFields(prefix, one))
		}
		return oneline.Join(errs...)
	}
	return fmt.Errorf("%w: %s%s", registry.ErrInvalid, prefix, strings.TrimPrefix(err.Error(), registry.ErrInvalid.Error()+": "))
}

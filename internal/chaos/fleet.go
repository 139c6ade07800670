package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	grpcService = "chaos-grpc"
	httpService = "chaos-http"

	steady        = "steady" // begins the IDs of the instances that stay
	steadyServers = 6        // of each service

	// settleTime is how long it may take after a fault until the registry has what it should have, and everyone sees it: the election of a
	// leader, a retry after the longest backoff, and the grace period.
	settleTime = 60 * time.Second
	// aftermath is how long the fleet is observed after a fault: a leader that has paused revokes within seconds what has expired by its clock.
	aftermath = 5 * time.Second
)

// isSteady reports whether a key or ID is of an instance that stays.
func isSteady(id string) bool {
	return strings.Contains(id, "/"+steady) || strings.HasPrefix(id, steady)
}

// fleet is the servers and clients of both services.
type fleet struct {
	services []*service
	rounds   int
	stop     func()
}

// service is the servers of a service, what watches it, and what calls it.
type service struct {
	name    string
	witness *witness
	load    *load
	steady  []registry.Registration
	spare   *registry.Registry // registers the instance that leaves
	address string             // of the server of that instance, which serves throughout
}

// newFleet starts all servers and clients, and blocks until the witnesses see the servers.
func newFleet(ctx context.Context, c cluster) (*fleet, error) {
	var ends []func()
	end := func(f func()) { ends = append(ends, f) }
	f := &fleet{stop: sync.OnceFunc(func() {
		for i := range ends {
			ends[len(ends)-1-i]()
		}
	})}
	for _, s := range []struct {
		name  string
		serve func(net.Listener) (stop func())
	}{{grpcService, serveGRPC}, {httpService, serveHTTP}} {
		started, err := startService(ctx, c, s.name, s.serve, end)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.services = append(f.services, started)
	}
	return f, nil
}

func startService(ctx context.Context, c cluster, name string, serve func(net.Listener) func(), end func(func())) (*service, error) {
	s := &service{name: name}
	open := func() (*registry.Registry, error) {
		reg, err := c.open(ctx)
		if err == nil {
			end(func() { reg.Close() })
		}
		return reg, err
	}
	listen := func() (string, error) {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		end(serve(lis))
		return lis.Addr().String(), nil
	}
	var ids []string
	for i := range steadyServers {
		address, err := listen()
		if err != nil {
			return nil, err
		}
		reg, err := open()
		if err != nil {
			return nil, err
		}
		in := registry.Instance{ID: fmt.Sprintf("%s-%d", steady, i), Service: name, Address: address, Version: "0"}
		g, err := reg.Register(ctx, in)
		if err != nil {
			return nil, err
		}
		s.steady, ids = append(s.steady, g), append(ids, in.ID)
	}
	var err error
	if s.address, err = listen(); err != nil {
		return nil, err
	}
	if s.spare, err = open(); err != nil {
		return nil, err
	}
	clients, err := open()
	if err != nil {
		return nil, err
	}
	s.witness = newWitness(name, ids)
	if err := s.startLoad(clients, end); err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	end(func() { cancel(); work.Wait() })
	work.Go(func() { s.witness.watch(watching, clients) })
	if err := s.settled(ctx, func(registry.Instance) bool { return true }); err != nil {
		return nil, err
	}
	work.Go(func() { s.load.run(watching) })
	return s, nil
}

func (s *service) startLoad(d registry.Discovery, end func(func())) error {
	var stop func()
	var err error
	if s.name == grpcService {
		s.load, stop, err = newGRPCLoad(d, s.name)
	} else {
		s.load, stop = newHTTPLoad(d, s.name)
	}
	if err == nil {
		end(stop)
	}
	return err
}

func (s *service) settled(ctx context.Context, content func(registry.Instance) bool) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return s.witness.settled(ctx, content)
}

// round makes one fault, and returns what it did. An error means that the fault could not be made.
func (f *fleet) round(ctx context.Context, c cluster, rng *rand.Rand) (*result, error) {
	f.rounds++
	all := c.faults()
	chosen := all[rng.IntN(len(all))]
	r := &result{fault: chosen.name}
	var leaving []registry.Registration
	for _, s := range f.services {
		g, err := s.arrive(ctx, f.rounds)
		if err != nil {
			return nil, fmt.Errorf("before the fault: %w", err)
		}
		leaving = append(leaving, g)
		s.witness.allow(chosen.mayMiss)
	}
	var changes sync.WaitGroup
	healed := make(chan struct{})
	for i, s := range f.services {
		changes.Go(func() { s.leave(ctx, leaving[i], healed, r) })
		changes.Go(func() { s.change(ctx, f.rounds, healed, r) })
	}
	err := chosen.run(ctx, rng)
	began := time.Now()
	close(healed)
	changes.Wait()
	if err != nil || ctx.Err() != nil {
		return r, err
	}
	for _, s := range f.services {
		if err := s.settled(ctx, s.isNewest); err != nil {
			r.violate("not settled %v after the fault: %v", settleTime, err)
		}
	}
	r.took = time.Since(began)
	sleep.For(ctx, aftermath)
	for _, s := range f.services {
		if err := s.settled(ctx, s.isNewest); err != nil {
			r.violate("not settled again %v after the fault: %v", aftermath+settleTime, err)
		}
		r.took = max(r.took, s.witness.lastUnsettled().Sub(began))
		pairs, violations := s.witness.take()
		calls, failures := s.load.take()
		r.pairs, r.calls = r.pairs+pairs, r.calls+calls
		r.violations, r.failures = append(r.violations, violations...), append(r.failures, failures...)
	}
	return r, nil
}

// arrive registers the instance that leaves in the round, and blocks until the witness sees it.
func (s *service) arrive(ctx context.Context, round int) (registry.Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	id := fmt.Sprintf("leaving-%d", round)
	g, err := s.spare.Register(ctx, registry.Instance{ID: id, Service: s.name, Address: s.address})
	if err != nil {
		return nil, err
	}
	return g, s.witness.until(ctx, func(set map[string]registry.Instance, _ error) bool { _, ok := set[id]; return ok })
}

// leave deregisters the instance, which may take as long as the fault and settleTime.
func (s *service) leave(ctx context.Context, g registry.Registration, healed <-chan struct{}, r *result) {
	ctx, cancel := after(ctx, healed, settleTime)
	defer cancel()
	err := g.Deregister(ctx)
	if err == nil {
		err = s.witness.left(ctx, g.Instance().ID)
	}
	if err != nil {
		r.violate("%s: %s could not leave: %v", s.name, g.Instance().ID, err)
	}
}

// change gives an instance a new version.
func (s *service) change(ctx context.Context, round int, healed <-chan struct{}, r *result) {
	ctx, cancel := after(ctx, healed, settleTime)
	defer cancel()
	g := s.steady[round%len(s.steady)]
	in := g.Instance()
	in.Version = fmt.Sprint(round)
	if err := g.Update(ctx, in); err != nil {
		r.violate("%s: %s could not be updated: %v", s.name, in.ID, err)
	}
}

// isNewest reports whether in has the content that its registration wants.
func (s *service) isNewest(in registry.Instance) bool {
	for _, g := range s.steady {
		if want := g.Instance(); want.ID == in.ID {
			return want.Version == in.Version
		}
	}
	return false
}

// after returns a context that ends some time after healed is closed.
func after(ctx context.Context, healed <-chan struct{}, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-healed:
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
			cancel()
		}
	}()
	return ctx, cancel
}

func serveGRPC(lis net.Listener) (stop func()) {
	gs := grpc.NewServer()
	greeting.Register(gs, greeting.From(lis.Addr().String()))
	go gs.Serve(lis)
	return gs.Stop
}

func serveHTTP(lis net.Listener) (stop func()) {
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }), ReadHeaderTimeout: 10 * time.Second}
	go hs.Serve(lis)
	return func() { hs.Close() }
}

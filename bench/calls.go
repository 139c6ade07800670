package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/bench/contender"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// callers is how many calls are in flight at a time.
const callers = 8

// staticList is the floor of the calls: a client with a list of addresses and no resolver.
const staticList = "static list"

// callsAnswer is what a client reports about its calls.
type callsAnswer struct {
	Made, Failed  int
	Why           string `json:",omitempty"` // of the first failure
	Median, Worst time.Duration
	P99           time.Duration
	Elapsed       time.Duration
}

// calls makes calls to three servers through each resolver, and then replaces the servers one by one.
func (b *bench) calls() error {
	for _, backend := range b.backends {
		for round := range b.Rounds {
			b.say("calls, %s, round %d of %d", backend, round+1, b.Rounds)
			if err := b.callsRound(backend, round); err != nil {
				return fmt.Errorf("calls, %s: %w", backend, err)
			}
		}
	}
	return nil
}

// caller is a contender's process and the servers that it calls.
type caller struct {
	contender.Contender
	*process
	fleet *fleet
}

func (b *bench) callsRound(backend string, round int) error {
	var all []*caller
	for _, c := range b.contenders(backend) {
		if c.Dial == nil {
			continue
		}
		caller, err := b.newCaller(c, serviceOf("calls", c, round))
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		defer caller.end()
		all = append(all, caller)
	}
	// Turns are short, so that a slow second of the machine affects all.
	for turn := range b.CallTurns {
		order := rand.Perm(len(all))
		if turn == 0 {
			slices.Sort(order) // the report lists contenders in the order of their first figures
		}
		for _, k := range order {
			if err := all[k].calls(b); err != nil {
				return fmt.Errorf("%s: %w", all[k].Name, err)
			}
		}
	}
	for i := range all {
		c := all[(i+round)%len(all)]
		if err := c.callsWhileReplaced(b); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

// newCaller starts three servers for c, and its process.
func (b *bench) newCaller(c contender.Contender, service string) (*caller, error) {
	fleet := &fleet{store: b.stores[c.Backend], form: c.Form, service: service}
	if c.Ours {
		r, err := contender.OpenRollcall(c.Backend, fleet.store.address())
		if err != nil {
			return nil, err
		}
		fleet.registry = r
	}
	for range 3 {
		if err := fleet.add(); err != nil {
			fleet.stop()
			return nil, err
		}
	}
	p, err := start(c, b.stores[c.Backend].address())
	if err != nil {
		fleet.stop()
		return nil, err
	}
	return &caller{c, p, fleet}, nil
}

func (c *caller) end() {
	c.process.stop()
	c.fleet.stop()
}

// calls makes the calls of one turn. The floor also makes the calls with the static list, in a turn of their own.
func (c *caller) calls(b *bench) error {
	tell := func(name string, a callsAnswer) {
		k := key{"calls", c.Backend, "three servers", "", name}
		figure := func(f, unit string, v float64) { k.figure = f; b.report.add(k, unit, v) }
		figure("calls a second (more is better)", "", float64(a.Made)/a.Elapsed.Seconds())
		figure("median latency", "ms", milliseconds(a.Median))
		figure("99th percentile", "ms", milliseconds(a.P99))
		figure("failed calls", "", float64(a.Failed))
	}
	q := ask{Do: "calls", Service: c.fleet.service, Limit: b.Calls / time.Duration(b.CallTurns), Parallel: callers}
	a, err := c.ask(q)
	if err != nil {
		return err
	}
	tell(c.Name, a.Calls)
	if !c.Floor {
		return nil
	}
	q.Static = c.fleet.addresses()
	if a, err = c.ask(q); err == nil {
		tell(staticList, a.Calls)
	}
	return err
}

func (c *caller) callsWhileReplaced(b *bench) error {
	q := ask{Do: "calls", Service: c.fleet.service, Limit: 2 * b.Calls, Parallel: callers}
	replaced := make(chan error, 1)
	go func() { replaced <- c.fleet.replaceAll(q.Limit / 5) }()
	a, err := c.ask(q)
	if err := errors.Join(err, <-replaced); err != nil {
		return err
	}
	if a.Calls.Why != "" {
		b.say("calls, %s: %s: %d failed, the first with: %s", c.Backend, c.Name, a.Calls.Failed, a.Calls.Why)
	}
	k := key{"calls", c.Backend, "three servers replaced one by one", "failed calls", c.Name}
	b.report.add(k, "", float64(a.Calls.Failed))
	k.figure = "calls made (more is better)"
	b.report.add(k, "", float64(a.Calls.Made))
	return nil
}

// fleet is the servers of a service, which run in this process. They are the same for all contenders.
type fleet struct {
	store    store
	form     contender.Form
	service  string
	registry *registry.Registry // nil if servers are registered by hand, as the contender's users do

	servers []*server
	started int
}

type server struct {
	in   contender.Instance
	gs   *grpc.Server
	stop func() error // deregisters, waits for running calls, and ends
}

type testService struct {
	pb.UnimplementedTestServiceServer
}

func (testService) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (f *fleet) addresses() (list []string) {
	for _, s := range f.servers {
		list = append(list, s.in.Address)
	}
	return list
}

// add starts a server and registers it.
func (f *fleet) add() error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.started++
	s := &server{in: contender.Instance{Number: f.started, Service: f.service, Address: lis.Addr().String()}, gs: grpc.NewServer()}
	pb.RegisterTestServiceServer(s.gs, testService{})
	f.servers = append(f.servers, s)
	if f.registry != nil {
		ctx, end := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		registered := make(chan struct{})
		own := &grpcx.Server{Registrar: notifying{f.registry, registered}, DrainDelay: time.Second,
			Instance: registry.Instance{Service: f.service, Version: contender.Version, Zone: contender.Zone, Metadata: contender.Metadata}}
		go func() { ended <- own.Serve(ctx, s.gs, lis) }()
		s.stop = func() error { end(); return <-ended }
		select {
		case <-registered:
			return nil
		case err := <-ended:
			ended <- err
			return fmt.Errorf("the server ended: %w", err)
		}
	}
	go s.gs.Serve(lis)
	// A careful user does the same by hand: deregister, and wait for the running calls.
	s.stop = func() error {
		err := f.store.remove(f.form, s.in)
		s.gs.GracefulStop()
		return err
	}
	return f.store.put(f.form, s.in)
}

// replaceAll replaces each server: it starts a new one, and ends the old one.
func (f *fleet) replaceAll(pause time.Duration) error {
	for range len(f.servers) {
		time.Sleep(pause)
		if err := f.add(); err != nil {
			return err
		}
		old := f.servers[0]
		f.servers = f.servers[1:]
		if err := old.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) stop() {
	for _, s := range f.servers {
		s.stop()
	}
	if f.registry != nil {
		f.registry.Close()
	}
}

// notifying closes done when the instance is registered.
type notifying struct {
	registry.Registrar
	done chan struct{}
}

func (a notifying) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	r, err := a.Registrar.Register(ctx, in)
	if err == nil {
		close(a.done)
	}
	return r, err
}

// makeCalls makes calls for a while, in the process of the contender.
func makeCalls(c contender.Contender, address string, q ask) (answer callsAnswer, err error) {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	var cc *grpc.ClientConn
	var end func()
	if len(q.Static) > 0 {
		cc, end, err = contender.DialStatic(q.Static, roundrobin.Name, plain)
	} else {
		cc, end, err = c.Dial(address, q.Service, roundrobin.Name, plain)
	}
	if err != nil {
		return answer, err
	}
	defer end()
	client := pb.NewTestServiceClient(cc)
	// The first calls wait for the resolver and the connections, which is not measured here.
	warm, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	for range 100 {
		if _, err := client.EmptyCall(warm, &pb.Empty{}, grpc.WaitForReady(true)); err != nil {
			return answer, fmt.Errorf("the first calls: %w", err)
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var calling sync.WaitGroup
	began := time.Now()
	for range q.Parallel {
		calling.Go(func() {
			var own []time.Duration
			failed, why := 0, ""
			for time.Since(began) < q.Limit {
				ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
				at := time.Now()
				if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
					if failed++; failed == 1 {
						why = err.Error()
					}
				} else {
					own = append(own, time.Since(at))
				}
				done()
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			answer.Failed += failed
			if answer.Why == "" {
				answer.Why = why
			}
		})
	}
	calling.Wait()
	answer.Elapsed = time.Since(began)
	answer.Made = len(all)
	slices.Sort(all)
	if n := len(all); n > 0 {
		answer.Median, answer.P99, answer.Worst = all[n/2], all[n*99/100], all[n-1]
	}
	return answer, nil
}

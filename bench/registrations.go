package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// registrations measures what the registrations of one process cost: to make them, to keep them, and to make them again after the registry
// was restarted without its data. The contenders take turns, each on a registry without data.
func (b *bench) registrations() error {
	for _, backend := range b.backends {
		for _, n := range b.Registers {
			err := b.eachInTurn(fmt.Sprintf("%d registrations", n), backend, func(_ int, c contender.Contender) error {
				if c.Register == nil {
					return nil
				}
				return b.registerOnce(c, n)
			})
			if err != nil {
				return err
			}
		}
		if err := b.stores[backend].restart(false); err != nil {
			return err
		}
	}
	return nil
}

// registerOnce has a process of c make n registrations.
func (b *bench) registerOnce(c contender.Contender, n int) error {
	s := b.stores[c.Backend]
	if err := s.restart(false); err != nil {
		return err
	}
	others, err := s.registered()
	if err != nil {
		return err
	}
	p, err := start(c, s.address())
	if err != nil {
		return err
	}
	defer p.stop()
	figure := func(name, unit string, value float64) {
		b.report.add(key{"registrations", c.Backend, fmt.Sprint(n), name, c.Name}, unit, value)
	}
	empty, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	server, began := serverCPU(s), time.Now()
	if _, err := p.ask(ask{Do: "register", Service: "reg", Len: n}); err != nil {
		return err
	}
	never, err := b.awaitRegistered(s, others+n)
	if err != nil || never {
		return errors.Join(err, fmt.Errorf("%d instances were not registered", n))
	}
	figure("all registered after", "ms", milliseconds(time.Since(began)))
	there, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	figure("client CPU to register all", "ms", milliseconds(there.CPU-empty.From))
	figure("server CPU to register all", "ms", milliseconds(serverCPU(s)-server))

	time.Sleep(b.Idle / 5) // some work follows a registration, such as the first look at the catalog
	from, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	before, server, began := p.proxy.counts(), serverCPU(s), time.Now()
	time.Sleep(b.Idle)
	moved, serverUsed, lasted := p.proxy.counts().since(before), serverCPU(s)-server, time.Since(began).Seconds()
	then, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	figure("requests a second", "", float64(moved.requests)/lasted)
	figure("client CPU", "ms a second", milliseconds(then.CPU-from.From)/lasted)
	figure("server CPU", "ms a second", milliseconds(serverUsed)/lasted)
	figure("open connections", "", float64(moved.open))
	figure("goroutines a registration", "", float64(then.Goros-empty.Goros)/float64(n))
	figure("heap a registration", "kB", (float64(then.Heap)-float64(empty.Heap))/1e3/float64(n))
	return b.registeredAgain(p, n, others, figure)
}

// registeredAgain restarts the registry without its data, and measures when all are registered again.
func (b *bench) registeredAgain(p *process, n, others int, figure func(string, string, float64)) error {
	s := b.stores[p.Backend]
	from, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	s.kill()
	back, err := b.restart(p.Backend, false)
	if err != nil {
		return err
	}
	never, err := b.awaitRegistered(s, others+n)
	if err != nil {
		return err
	}
	if never {
		b.report.text(key{"registrations", p.Backend, fmt.Sprint(n), "all again after a wipe", p.Name}, "never")
		return nil
	}
	figure("all again after a wipe", "s", time.Since(back).Seconds())
	then, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	figure("client CPU for that", "ms", milliseconds(then.CPU-from.From))
	figure("server CPU for that, with its start", "ms", milliseconds(serverCPU(s)))
	return nil
}

// awaitRegistered waits until the registry has n entries. It reports never if that takes longer than Timeout.
func (b *bench) awaitRegistered(s store, n int) (never bool, err error) {
	for began := time.Now(); time.Since(began) < b.Timeout; time.Sleep(20 * time.Millisecond) {
		now, err := s.registered()
		if err != nil {
			return false, err
		}
		if now >= n {
			return false, nil
		}
	}
	return true, nil
}

// registerAll registers n instances, each of a service of its own, 64 at a time.
func registerAll(r contender.Registrar, service string, n int) error {
	errs, slots := make(chan error, n), make(chan struct{}, 64)
	for i := range n {
		slots <- struct{}{}
		go func() {
			errs <- r.Register(instance(fmt.Sprintf("%s-%d", service, i), i))
			<-slots
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// serverCPU returns the CPU time of the server's process since it began, in steps of 10 ms, or 0 if the system does not say.
func serverCPU(s store) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		return 0
	}
	_, fields, _ := strings.Cut(string(text), ") ") // the name of the program is in parentheses
	var ticks int64
	for _, f := range strings.Fields(fields)[11:13] { // in user mode, and in the kernel
		var n int64
		fmt.Sscan(f, &n)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

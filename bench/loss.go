package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// lossSize is how many instances there are before a loss.
const lossSize = 20

// loss makes the registry unreachable in several ways. It measures when each contender is correct again, and which sets it delivered
// meanwhile. All contenders of a backend have the same loss at the same time, since it takes seconds and no CPU.
func (b *bench) loss() error {
	for _, backend := range b.backends {
		for round := range b.Rounds {
			for _, part := range []struct {
				name  string
				times int // in a round
				run   func(*bench, string, string, []*process) error
			}{
				{"outage", b.Outages, (*bench).outage},
				{"wiped", 1, (*bench).wiped},
				{"compacted", 1, (*bench).compacted},
			} {
				if part.name == "compacted" && backend != "etcd" {
					continue // Consul has no history from which a watch could continue
				}
				for i := range part.times {
					b.say("loss, %s, round %d of %d: %s", backend, round+1, b.Rounds, part.name)
					if err := b.lossOnce(backend, fmt.Sprintf("loss-%s-%d-%d", part.name, round, i), part.run); err != nil {
						return fmt.Errorf("loss, %s, %s: %w", backend, part.name, err)
					}
				}
			}
		}
	}
	return nil
}

func (b *bench) lossOnce(backend, service string, run func(*bench, string, string, []*process) error) error {
	if err := b.populate(backend, population(service, lossSize)); err != nil {
		return err
	}
	if s, ok := b.stores[backend].(*consulStore); ok {
		if err := s.beat(population(service, lossSize)...); err != nil {
			return err
		}
	}
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for range b.Witnesses { // how much of a retry's pause is left when the registry is back is random
		for _, c := range b.contenders(backend) {
			p, err := start(c, b.stores[backend].address())
			if err != nil {
				return err
			}
			all = append(all, p)
			if err := p.follow(service, lossSize, false); err != nil {
				return err
			}
			if _, err := p.ask(ask{Do: "reset"}); err != nil {
				return err
			}
		}
	}
	return run(b, backend, service, all)
}

// outage kills the registry for a while. It comes back with its data, and one more instance registers. The outage is up to a fifteenth
// longer than its name says, so that a contender which retries in even steps is not at the same step each time.
func (b *bench) outage(backend, service string, all []*process) error {
	name := fmt.Sprintf("an outage of %v", b.Outage)
	before := countsOf(all)
	lasts := b.Outage + rand.N(b.Outage/15)
	b.stores[backend].kill()
	time.Sleep(lasts)
	for i, p := range all {
		moved := p.proxy.counts().since(before[i])
		b.report.add(key{"loss", backend, name, "attempts a second meanwhile", p.Name}, "", float64(moved.connections+moved.requests)/lasts.Seconds())
	}
	last := instance(service, lossSize)
	return b.recovered(name, all, lossSize+1, last, func() (time.Time, error) {
		return b.restart(backend, true, last)
	})
}

// wiped restarts the registry without its data. All instances except one register again at once, and a new one does instead of that one.
func (b *bench) wiped(backend, service string, all []*process) error {
	b.stores[backend].kill()
	last := instance(service, lossSize)
	return b.recovered("restarted wiped", all, lossSize, last, func() (time.Time, error) {
		return b.restart(backend, false, append(population(service, lossSize)[1:], last)...)
	})
}

// compacted cuts the contenders off, registers an instance and compacts the history, so that no watch can continue when the contenders
// are connected again.
func (b *bench) compacted(backend, service string, all []*process) error {
	for _, p := range all {
		p.proxy.sever()
	}
	last := instance(service, lossSize)
	if err := b.populate(backend, []contender.Instance{last}); err != nil {
		return err
	}
	if err := b.stores[backend].(*etcdStore).compact(); err != nil {
		return err
	}
	return b.recovered("cut off, and compacted", all, lossSize+1, last, func() (time.Time, error) {
		back := time.Now()
		for _, p := range all {
			p.proxy.mend()
		}
		return back, nil
	})
}

// restart starts a killed registry again, and registers the instances as soon as it is ready. It returns the time at which the registry
// first accepted a connection. That is earlier, and no contender can know any earlier that the registry is back.
func (b *bench) restart(backend string, keepData bool, instances ...contender.Instance) (back time.Time, err error) {
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			if c, err := net.Dial("tcp", b.stores[backend].address()); err == nil {
				back = time.Now()
				c.Close()
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	err = b.stores[backend].restart(keepData)
	watching.Wait()
	if err == nil {
		err = b.populate(backend, instances)
	}
	b.say("registered %v after the registry accepted connections", time.Since(back).Round(time.Millisecond))
	return back, err
}

// recovered calls comeBack, which returns the time at which the registry came back. It measures how long after that each contender has
// n instances, including has.
func (b *bench) recovered(name string, all []*process, n int, has contender.Instance, comeBack func() (time.Time, error)) error {
	for _, p := range all {
		if _, err := p.ask(ask{Do: "expect", Has: has.Address, Len: n}); err != nil {
			return err
		}
	}
	back, err := comeBack()
	if err != nil {
		return err
	}
	back = back.Round(0) // the monotonic clocks of two processes differ
	errs := make([]error, len(all))
	var waiting sync.WaitGroup
	for i, p := range all {
		waiting.Go(func() { errs[i] = b.reportLoss(name, p, back) })
	}
	waiting.Wait()
	return errors.Join(errs...)
}

func (b *bench) reportLoss(name string, p *process, back time.Time) error {
	a, err := p.ask(ask{Do: "await", Limit: b.Timeout})
	if err != nil {
		return err
	}
	u, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	if k := (key{"loss", p.Backend, name, "correct again after", p.Name}); a.Never {
		b.report.text(k, "never")
	} else {
		b.report.add(k, "s", a.At.Sub(back).Seconds())
	}
	b.report.add(key{"loss", p.Backend, name, "sets wrongly empty", p.Name}, "", float64(u.Empty))
	return nil
}

func countsOf(all []*process) []counts {
	list := make([]counts, len(all))
	for i, p := range all {
		list[i] = p.proxy.counts()
	}
	return list
}

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// storm registers instances one by one, deregisters them one by one, and measures what that costs a watcher.
func (b *bench) storm() error {
	for _, backend := range b.backends {
		err := b.eachInTurn("storm", backend, func(round int, c contender.Contender) error {
			// Each has a service of its own, so that no contender sees what the one before has left.
			return b.stormOnce(c, serviceOf("storm", c, round))
		})
		if err != nil {
			return err
		}
		for life := range b.Rounds * b.Lives {
			b.say("ends of storms, %s, %d of %d", backend, life+1, b.Rounds*b.Lives)
			if err := b.stormEnds(backend, life); err != nil {
				return fmt.Errorf("ends of storms, %s: %w", backend, err)
			}
		}
	}
	return nil
}

// stormOnce is one storm that c follows from its own process.
func (b *bench) stormOnce(c contender.Contender, service string) error {
	p, list, err := b.awaitStorm(c, service, b.Storm)
	if err != nil {
		return err
	}
	defer p.stop()
	before, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	if _, err := p.ask(ask{Do: "reset"}); err != nil {
		return err
	}
	traffic := p.proxy.counts()
	if err := b.onAndOff(c, p, list); err != nil {
		return err
	}
	moved := p.proxy.counts().since(traffic)
	after, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	k := b.stormKey(c)
	figure := func(name, unit string, value float64) {
		k.figure = name
		b.report.add(k, unit, value)
	}
	figure("client CPU", "s", (after.CPU - before.From).Seconds())
	figure("bytes", "MB", float64(moved.bytes)/1e6)
	figure("requests", "", float64(moved.requests))
	figure("sets handed out", "", float64(after.Sets))
	return nil
}

// smallStorm is the size of the storms of stormEnds.
const smallStorm = 20

// stormEnds adds the ends of small storms to the ends of the large ones, which are too few: an end takes tenths of a millisecond, and half
// as long again while the machine is slower. So all contenders run at the same time, each with a service of its own, the storms take
// turns, and each process lives as long as in quiet. Contenders that poll are left out: their last set comes with the next poll, after
// seconds.
func (b *bench) stormEnds(backend string, life int) error {
	type follower struct {
		c    contender.Contender
		p    *process
		list []contender.Instance
	}
	var all []follower
	for _, c := range b.contenders(backend) {
		if c.Asks > 0 {
			continue
		}
		p, list, err := b.awaitStorm(c, serviceOf("end", c, life), smallStorm)
		if err != nil {
			return err
		}
		defer p.stop()
		all = append(all, follower{c, p, list})
	}
	for range b.Ends {
		for _, k := range rand.Perm(len(all)) {
			f := all[k]
			if err := b.onAndOff(f.c, f.p, f.list); err != nil {
				return fmt.Errorf("%s: %w", f.c.Name, err)
			}
		}
	}
	return nil
}

// awaitStorm makes c follow a service of one instance, and returns n other instances.
func (b *bench) awaitStorm(c contender.Contender, service string, n int) (*process, []contender.Instance, error) {
	s := b.stores[c.Backend]
	list := population(service, n+1)
	if err := s.put(c.Form, list[0]); err != nil {
		return nil, nil, err
	}
	p, err := start(c, s.address())
	if err != nil {
		return nil, nil, err
	}
	if err := p.follow(service, 1, false); err != nil {
		p.stop()
		return nil, nil, err
	}
	return p, list[1:], nil
}

func (b *bench) stormKey(c contender.Contender) key {
	return key{"storm", c.Backend, fmt.Sprintf("%d on and off", b.Storm), "", c.Name}
}

// onAndOff registers the instances of list one by one, deregisters them one by one, and reports when p had the last set.
func (b *bench) onAndOff(c contender.Contender, p *process, list []contender.Instance) error {
	s := b.stores[c.Backend]
	for _, in := range list {
		if err := s.put(c.Form, in); err != nil {
			return err
		}
	}
	last := list[len(list)-1]
	for _, in := range list[:len(list)-1] {
		if err := s.remove(c.Form, in); err != nil {
			return err
		}
	}
	late, _, never, err := p.after(expectation{hasnt: last.Address, len: 1}, b.Timeout, func() error { return s.remove(c.Form, last) })
	if err != nil {
		return err
	}
	k := b.stormKey(c)
	if k.figure = "last set after the last change"; never {
		b.report.text(k, "never")
	} else {
		b.report.add(k, "ms", milliseconds(max(late, 0)))
	}
	return nil
}

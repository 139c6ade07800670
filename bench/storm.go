package main

import (
	"fmt"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// storm registers instances one by one and deregisters them one by one, and measures what it costs those who watch.
func (b *bench) storm() error {
	for _, backend := range b.backends {
		err := b.eachInTurn("storm", backend, func(round int, c contender.Contender) error {
			// A service of its own, so that what is left of the one before is nobody's.
			return b.stormOnce(c, serviceOf("storm", c, round))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stormOnce(c contender.Contender, service string) error {
	s := b.stores[c.Backend]
	list := population(service, b.Storm+1)
	stays, list := list[0], list[1:]
	if err := s.put(c.Form, stays); err != nil {
		return err
	}
	p, err := start(c, s.address())
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.follow(service, 1, false); err != nil {
		return err
	}
	before, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	if _, err := p.ask(ask{Do: "mark"}); err != nil {
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
	figure("client CPU", "s", (after.CPU - before.CPU).Seconds())
	figure("bytes", "MB", float64(moved.bytes)/1e6)
	figure("requests", "", float64(moved.requests))
	figure("sets handed out", "", float64(after.Sets))
	if c.Asks > 0 {
		return nil // its last set comes when it asks next, in seconds
	}
	for range b.Endings { // one a round says little of what takes tenths of a millisecond
		if err := b.onAndOff(c, p, list[:min(len(list), smallStorm)]); err != nil {
			return err
		}
	}
	return nil
}

// smallStorm is the size of those that follow the large one, for their ends.
const smallStorm = 20

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
	late, _, never, err := p.after(expectation{hasnt: last.Address, len: 1}, b.Patience, func() error { return s.remove(c.Form, last) })
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

package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
	"github.com/rollcall-go/rollcall/registry"
)

// goZeroMost is how many addresses go-zero's resolver hands to gRPC at the most (its subset of 32).
const goZeroMost = 32

// quiet measures how long after a registration its watcher, and gRPC's picker, hold it, while nothing else happens.
func (b *bench) quiet() error {
	for _, backend := range b.backends {
		for _, n := range b.Sizes {
			service := fmt.Sprintf("quiet-%d", n)
			if err := b.populate(backend, population(service, n)); err != nil {
				return err
			}
			err := b.eachInTurn(fmt.Sprintf("quiet at %d", n), backend, func(round int, c contender.Contender) error {
				if err := b.quietOnce(c, service, n, round, false); err != nil {
					return err
				}
				if c.Dial == nil {
					return nil
				}
				if c.Form == contender.GoZero && n >= goZeroMost {
					b.report.text(key{"quiet", backend, fmt.Sprintf("%d instances", n), "to the picker", c.Name}, "hands gRPC 32 at the most")
					return nil
				}
				return b.quietOnce(c, service, n, round, true)
			})
			if err != nil {
				return err
			}
			b.stores[backend].restart(false) // what stays registered makes every further write to a Consul agent dearer
		}
	}
	return nil
}

func (b *bench) quietOnce(c contender.Contender, service string, n, round int, picker bool) error {
	figure := "to the watcher"
	if picker {
		figure = "to the picker"
	}
	k := key{"quiet", c.Backend, fmt.Sprintf("%d instances", n), figure, c.Name}
	s := b.stores[c.Backend]
	p, err := start(c, s.address())
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.follow(service, n, picker); err != nil {
		return err
	}
	for i := range b.changes(c, n) {
		in := instance(service, n+round*b.changes(c, n)+i)
		time.Sleep(b.pause(c, n)) // what paces itself in a storm is to be seen as it is without one
		sinceEnd, sinceBegin, never, err := p.after(expectation{has: in.Address, len: -1}, b.Patience, func() error { return s.put(c.Form, in) })
		if err != nil {
			return err
		}
		if never {
			b.report.text(k, "never")
		} else {
			// A watcher may hold it before the registration has returned: that is at once.
			b.report.add(k, "ms", milliseconds(max(sinceEnd, 0)))
			k.figure += ", since the write began"
			b.report.add(k, "ms", milliseconds(sinceBegin))
			k.figure = figure
		}
		time.Sleep(b.pause(c, n))
		if _, _, _, err := p.after(expectation{hasnt: in.Address, len: -1}, b.Patience, func() error { return s.remove(c.Form, in) }); err != nil {
			return err
		}
	}
	return nil
}

// changes is how many there are in a round for c. There are fewer where each takes seconds, among many and for who asks now and
// then, and more in etcd, where what is measured takes tenths of a millisecond, which vary by as much.
func (b *bench) changes(c contender.Contender, n int) int {
	changes := b.Changes
	if c.Backend == "etcd" {
		changes *= 8
	}
	if n > 1000 || c.Asks > 0 {
		changes = max(1, changes/3)
	}
	return changes
}

// pause is how long nothing happens before a change among n that c follows: at least twice as long as Rollcall takes between two
// sets of n in a storm, and for who asks now and then a part of that time more, or each change would come just after it has asked.
func (b *bench) pause(c contender.Contender, n int) time.Duration {
	spacing := max(registry.DefaultSpacing, time.Duration(n)*registry.DefaultSpacingPerInstance)
	if c.Backend == "etcd" {
		spacing /= registry.PushedSpacing
	}
	return max(b.Quiet, 2*spacing) + rand.N(c.Asks+1)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

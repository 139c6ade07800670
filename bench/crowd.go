package main

import (
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// crowd opens many watches in one process, and measures what they cost while nothing happens.
func (b *bench) crowd() error {
	name := func(i int) string { return fmt.Sprintf("crowd-%d", i) }
	for _, backend := range b.backends {
		var all []contender.Instance
		for i := range b.Services + 1 {
			all = append(all, population(name(i), 3)...)
		}
		if err := b.populate(backend, all); err != nil {
			return err
		}
		if s, ok := b.stores[backend].(*consulStore); ok {
			if err := s.beat(all...); err != nil {
				return err
			}
		}
		for _, part := range []struct {
			of       string
			watchers int
			service  func(i int) string
		}{
			{fmt.Sprintf("%d of one service", b.SameService), b.SameService, func(int) string { return name(0) }},
			{fmt.Sprintf("%d of one each", b.Services), b.Services, func(i int) string { return name(i + 1) }},
		} {
			err := b.eachInTurn("crowd of "+part.of, backend, func(_ int, c contender.Contender) error {
				return b.crowdOnce(c, part.of, part.watchers, part.service)
			})
			if err != nil {
				return err
			}
		}
		b.stores[backend].restart(false)
	}
	return nil
}

func (b *bench) crowdOnce(c contender.Contender, of string, watchers int, service func(int) string) error {
	// A Consul agent keeps a connection whose client has died until the read on it has waited enough, which may be minutes. The
	// next one would meet the limit of connections by what the one before has left.
	b.stores[c.Backend].restart(true)
	p, err := start(c, b.stores[c.Backend].address())
	if err != nil {
		return err
	}
	defer p.stop()
	k := key{"crowd", c.Backend, of, "", c.Name}
	figure := func(name, unit string, value float64) {
		k.figure = name
		b.report.add(k, unit, value)
	}
	bare, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range watchers {
		if _, err := p.ask(ask{Do: "watch", Service: service(i)}); err != nil {
			k.figure = "watchers without a set"
			b.report.text(k, "cannot open them")
			return nil
		}
	}
	var now answer
	for {
		if now, err = p.ask(ask{Do: "usage"}); err != nil {
			return err
		}
		if now.First >= watchers || time.Since(began) > b.Patience/3 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	figure("watchers without a set", "", float64(watchers-now.First))
	time.Sleep(b.Idle / 5) // what follows the first set, such as a watch from there on, is no idling
	traffic := p.proxy.counts()
	if now, err = p.ask(ask{Do: "usage"}); err != nil {
		return err
	}
	time.Sleep(b.Idle)
	then, err := p.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	idle := p.proxy.counts().since(traffic)
	figure("open connections", "", float64(idle.open))
	// Who serves fewer watchers has no smaller figure for it.
	if then.First > 0 {
		figure("goroutines a watcher", "", float64(then.Goros-bare.Goros)/float64(then.First))
		figure("heap a watcher", "kB", (float64(then.Heap)-float64(bare.Heap))/1e3/float64(then.First))
	}
	figure("resident memory", "MB", float64(then.RSS)/1e6)
	figure("requests a second when idle", "", float64(idle.requests)/b.Idle.Seconds())
	figure("CPU when idle", "ms a second", milliseconds(then.CPU-now.From)/b.Idle.Seconds())
	return nil
}

package main

import (
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// crowd is many watches in one process.
type crowd struct {
	of       string // what they watch, for the report
	watchers int
	service  func(i int) string
}

// crowd measures what crowds cost while nothing happens.
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
		for _, cr := range []crowd{
			{fmt.Sprintf("%d of one service", b.SameService), b.SameService, func(int) string { return name(0) }},
			{fmt.Sprintf("%d of one each", b.Services), b.Services, func(i int) string { return name(i + 1) }},
		} {
			if err := b.crowdOf(backend, cr); err != nil {
				return err
			}
		}
		if err := b.stores[backend].restart(false); err != nil {
			return err
		}
	}
	return nil
}

// idles is how long: on etcd for each periodic check to fall into it once, down to Rollcall's look at the store each 299 s.
func (b *bench) idles(backend string) time.Duration {
	if backend == "etcd" {
		return 10 * b.Idle
	}
	return b.Idle
}

// crowdOf lets the contenders idle: on Consul one after another, for some are busy with it; on etcd all at once, where each takes
// a fraction of a millisecond a second, of which one sample says nothing.
func (b *bench) crowdOf(backend string, cr crowd) error {
	if backend == "consul" {
		return b.eachInTurn("crowd of "+cr.of, backend, func(_ int, c contender.Contender) error {
			return b.crowdOnce(backend, cr, []contender.Contender{c})
		})
	}
	for round := range b.Rounds {
		b.say("crowd of %s, %s, round %d of %d: all", cr.of, backend, round+1, b.Rounds)
		var list []contender.Contender
		for range b.Idlers {
			list = append(list, b.contenders(backend)...)
		}
		if err := b.crowdOnce(backend, cr, list); err != nil {
			return err
		}
	}
	return nil
}

// idler is a process with a crowd.
type idler struct {
	*process
	empty, from answer // before there was a watch, and before it idled
	began       time.Time
	traffic     counts
	refused     bool // to open that many
}

// crowdOnce runs a process for each of list, all of which idle at the same time.
func (b *bench) crowdOnce(backend string, cr crowd, list []contender.Contender) error {
	// A Consul agent keeps a connection whose client has died until the read on it has waited enough, which may be minutes. The
	// next one would meet the limit of connections by what the one before has left.
	if err := b.stores[backend].restart(true); err != nil {
		return err
	}
	var all []*idler
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for _, c := range list {
		p, err := start(c, b.stores[backend].address())
		if err != nil {
			return err
		}
		i := &idler{process: p}
		all = append(all, i)
		if err := b.gather(cr, i); err != nil {
			return err
		}
	}
	time.Sleep(b.Idle / 5) // what follows the first set, such as a watch from there on, is no idling
	for _, i := range all {
		i.traffic, i.began = i.proxy.counts(), time.Now()
		var err error
		if i.from, err = i.ask(ask{Do: "usage"}); err != nil {
			return err
		}
	}
	time.Sleep(b.idles(backend))
	for _, i := range all {
		if err := b.reportCrowd(cr, i); err != nil {
			return err
		}
	}
	return nil
}

// gather opens the watches, and waits for their first sets.
func (b *bench) gather(cr crowd, i *idler) (err error) {
	if i.empty, err = i.ask(ask{Do: "usage"}); err != nil {
		return err
	}
	began := time.Now()
	for n := range cr.watchers {
		if _, err := i.ask(ask{Do: "watch", Service: cr.service(n)}); err != nil {
			i.refused = true
			return nil
		}
	}
	for {
		now, err := i.ask(ask{Do: "usage"})
		if err != nil || now.First >= cr.watchers || time.Since(began) > b.Patience/3 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *bench) reportCrowd(cr crowd, i *idler) error {
	if i.refused {
		b.report.text(key{"crowd", i.Backend, cr.of, "watchers without a set", i.Name}, "cannot open them")
		return nil
	}
	idle, lasted := i.proxy.counts().since(i.traffic), time.Since(i.began).Seconds()
	then, err := i.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	figure := func(name, unit string, value float64) {
		b.report.add(key{"crowd", i.Backend, cr.of, name, i.Name}, unit, value)
	}
	figure("watchers without a set", "", float64(cr.watchers-then.First))
	figure("open connections", "", float64(idle.open))
	// Who serves fewer watchers has no smaller figure for it.
	if then.First > 0 {
		figure("goroutines a watcher", "", float64(then.Goros-i.empty.Goros)/float64(then.First))
		figure("heap a watcher", "kB", (float64(then.Heap)-float64(i.empty.Heap))/1e3/float64(then.First))
	}
	figure("resident memory", "MB", float64(then.RSS)/1e6)
	figure("requests a second when idle", "", float64(idle.requests)/lasted)
	figure("CPU when idle", "ms a second", milliseconds(then.CPU-i.from.From)/lasted)
	return nil
}

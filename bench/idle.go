package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// watches is many watches in one process.
type watches struct {
	of       string // what they watch, for the report
	watchers int
	service  func(i int) string
}

// idle measures what many watches cost while nothing happens.
func (b *bench) idle() error {
	name := func(i int) string { return fmt.Sprintf("idle-%d", i) }
	for _, backend := range b.backends {
		var all []contender.Instance
		for i := range slices.Max(b.Services) + 1 {
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
		runs := []watches{{fmt.Sprintf("%d of one service", b.SameService), b.SameService, func(int) string { return name(0) }}}
		for _, n := range b.idleServices(backend) {
			runs = append(runs, watches{fmt.Sprintf("%d of one each", n), n, func(i int) string { return name(i + 1) }})
		}
		for _, w := range runs {
			if err := b.idleWith(backend, w); err != nil {
				return err
			}
		}
		if err := b.stores[backend].restart(false); err != nil {
			return err
		}
	}
	return nil
}

// idleServices returns how many services are watched. On etcd, all watches have one connection, so the largest number shows enough.
func (b *bench) idleServices(backend string) []int {
	if backend == "etcd" {
		return []int{slices.Max(b.Services)}
	}
	return b.Services
}

// idleTime returns how long the contenders idle. On etcd that includes each periodic check once; Rollcall's read of the store, each
// 299 s, is the rarest.
func (b *bench) idleTime(backend string) time.Duration {
	if backend == "etcd" {
		return 10 * b.Idle
	}
	return b.Idle
}

// idleWith lets the contenders idle with open watches. On Consul they idle one after another, because some are busy meanwhile. On etcd
// they idle at the same time, in several processes each: a process uses a fraction of a millisecond of CPU a second, and one sample
// of that says nothing.
func (b *bench) idleWith(backend string, w watches) error {
	if backend == "consul" {
		return b.eachInTurn("idle, "+w.of, backend, func(_ int, c contender.Contender) error {
			return b.idleOnce(backend, w, []contender.Contender{c})
		})
	}
	for round := range b.Rounds {
		b.say("idle, %s, %s, round %d of %d: all", w.of, backend, round+1, b.Rounds)
		var list []contender.Contender
		for range b.Idlers {
			list = append(list, b.contenders(backend)...)
		}
		if err := b.idleOnce(backend, w, list); err != nil {
			return err
		}
	}
	return nil
}

// idler is a process with many watches.
type idler struct {
	*process
	empty, from answer // before the watches, and before the idle time
	began       time.Time
	traffic     counts
	refused     bool // to open so many watches
}

// idleOnce runs a process for each contender of list, and all processes idle at the same time.
func (b *bench) idleOnce(backend string, w watches, list []contender.Contender) error {
	// A Consul agent keeps the connection of a client that has died until its read times out, which may take minutes. So the next
	// contender would find too few free connections.
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
		if err := b.gather(w, i); err != nil {
			return err
		}
	}
	time.Sleep(b.Idle / 5) // work after the first set, such as the start of a watch, is not part of the idle time
	for _, i := range all {
		i.traffic, i.began = i.proxy.counts(), time.Now()
		var err error
		if i.from, err = i.ask(ask{Do: "usage"}); err != nil {
			return err
		}
	}
	time.Sleep(b.idleTime(backend))
	for _, i := range all {
		if err := b.reportIdle(w, i); err != nil {
			return err
		}
	}
	return nil
}

// gather opens the watches, and waits for their first sets.
func (b *bench) gather(w watches, i *idler) (err error) {
	if i.empty, err = i.ask(ask{Do: "usage"}); err != nil {
		return err
	}
	began := time.Now()
	for n := range w.watchers {
		if _, err := i.ask(ask{Do: "watch", Service: w.service(n)}); err != nil {
			i.refused = true
			return nil
		}
	}
	for {
		now, err := i.ask(ask{Do: "usage"})
		if err != nil || now.First >= w.watchers || time.Since(began) > b.Timeout/3 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *bench) reportIdle(w watches, i *idler) error {
	if i.refused {
		b.report.text(key{"idle", i.Backend, w.of, "watchers without a set", i.Name}, "cannot open them")
		return nil
	}
	idle, lasted := i.proxy.counts().since(i.traffic), time.Since(i.began).Seconds()
	then, err := i.ask(ask{Do: "usage"})
	if err != nil {
		return err
	}
	figure := func(name, unit string, value float64) {
		b.report.add(key{"idle", i.Backend, w.of, name, i.Name}, unit, value)
	}
	figure("watchers without a set", "", float64(w.watchers-then.First))
	figure("open connections", "", float64(idle.open))
	// A contender that serves fewer watchers must not get a smaller figure for that.
	if then.First > 0 {
		figure("goroutines a watcher", "", float64(then.Goros-i.empty.Goros)/float64(then.First))
		figure("heap a watcher", "kB", (float64(then.Heap)-float64(i.empty.Heap))/1e3/float64(then.First))
	}
	figure("resident memory", "MB", float64(then.RSS)/1e6)
	figure("requests a second when idle", "", float64(idle.requests)/lasted)
	figure("CPU when idle", "ms a second", milliseconds(then.CPU-i.from.From)/lasted)
	return nil
}

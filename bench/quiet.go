package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
	"github.com/rollcall-go/rollcall/registry"
)

// handsOutFew reports whether a picker never has more than n instances: go-zero's resolver gives gRPC a subset of 32.
func handsOutFew(c contender.Contender, n int) bool { return c.Form == contender.GoZero && n >= 32 }

// quiet measures how long after a registration a watcher and gRPC's picker have it, while nothing else happens.
func (b *bench) quiet() error {
	for _, backend := range b.backends {
		for _, n := range b.Sizes {
			groups := b.groups(backend, n)
			if err := b.populateFor(groups, n); err != nil {
				return err
			}
			for round := range b.Rounds {
				for i := range groups {
					g := groups[(i+round)%len(groups)]
					b.say("quiet at %d, %s, round %d of %d: %s", n, backend, round+1, b.Rounds, g)
					for life := range b.lives(backend) {
						if err := b.quietLife(g, n, round*b.lives(backend)+life); err != nil {
							return fmt.Errorf("quiet at %d, %s: %w", n, backend, err)
						}
					}
				}
			}
			for _, c := range b.contenders(backend) {
				if handsOutFew(c, n) {
					b.report.text(key{"quiet", backend, fmt.Sprintf("%d instances", n), toPicker, c.Name}, "hands gRPC 32 at the most")
				}
			}
			if err := b.stores[backend].restart(false); err != nil { // each instance that stays registered makes further writes to a Consul agent slower
				return err
			}
		}
	}
	return nil
}

// quietFollower is a contender that follows the n instances of a service, by a watcher or by a picker of gRPC's.
type quietFollower struct {
	contender contender.Contender
	service   string
	figure    string
	*process  // while it runs
}

func (f *quietFollower) String() string { return f.contender.Name + " " + f.figure }

const toWatcher, toPicker = "to the watcher", "to the picker"

// groups returns groups of contenders that run at the same time and whose changes take turns. In etcd all are in one group, since the
// differences are tenths of a millisecond, and a machine that is slower for some seconds must affect all of them. Each has a service of
// its own, and does not see the others' changes. In Consul each is alone, since an agent is slower the more is registered with it.
func (b *bench) groups(backend string, n int) [][]*quietFollower {
	var all []*quietFollower
	for _, c := range b.contenders(backend) {
		all = append(all, &quietFollower{contender: c, figure: toWatcher})
		if c.Dial != nil && !handsOutFew(c, n) {
			all = append(all, &quietFollower{contender: c, figure: toPicker})
		}
	}
	var groups [][]*quietFollower
	for i, f := range all {
		f.service = fmt.Sprintf("quiet-%d", n)
		if backend != "etcd" {
			groups = append(groups, all[i:i+1])
			continue
		}
		f.service += fmt.Sprintf("-%d", i)
		groups = [][]*quietFollower{all}
	}
	return groups
}

// populateFor registers n instances of each service that the groups follow.
func (b *bench) populateFor(groups [][]*quietFollower, n int) error {
	there := map[string]bool{}
	for _, g := range groups {
		for _, f := range g {
			if there[f.service] {
				continue
			}
			there[f.service] = true
			if err := b.stores[f.contender.Backend].put(f.contender.Form, population(f.service, n)...); err != nil {
				return fmt.Errorf("populate: %w", err)
			}
		}
	}
	return nil
}

// lives returns how many processes of each contender run one after another in a round. In etcd, how soon a sleeping process continues
// depends on the processor on which the system has placed it, by as much as the contenders differ.
func (b *bench) lives(backend string) int {
	if backend == "etcd" {
		return b.Lives
	}
	return 1
}

// quietLife starts a group. Again and again one more instance registers for each contender of the group, and deregisters.
func (b *bench) quietLife(group []*quietFollower, n, life int) error {
	for _, f := range group {
		var err error
		if f.process, err = start(f.contender, b.stores[f.contender.Backend].address()); err != nil {
			return err
		}
		defer f.stop()
		if err := f.follow(f.service, n, f.figure == toPicker); err != nil {
			return err
		}
	}
	changes := b.changes(group[0].contender, n)
	for i := range changes {
		number := n + life*changes + i
		order := rand.Perm(len(group)) // so that no contender always follows the same other one, which may still be cleaning up
		if i == 0 {
			slices.Sort(order) // the report lists contenders in the order of their first figures
		}
		for _, k := range order {
			if err := b.quietPut(group[k], instance(group[k].service, number), n, len(group)); err != nil {
				return err
			}
		}
		for _, f := range group {
			in := instance(f.service, number)
			time.Sleep(b.pause(f.contender, n, len(group)))
			remove := func() error { return b.stores[f.contender.Backend].remove(f.contender.Form, in) }
			if _, _, _, err := f.after(expectation{hasnt: in.Address, len: -1}, b.Timeout, remove); err != nil {
				return err
			}
		}
	}
	return nil
}

// quietPut registers in, and reports how long it took until f had it.
func (b *bench) quietPut(f *quietFollower, in contender.Instance, n, group int) error {
	c := f.contender
	k := key{"quiet", c.Backend, fmt.Sprintf("%d instances", n), f.figure, c.Name}
	time.Sleep(b.pause(c, n, group))
	put := func() error { return b.stores[c.Backend].put(c.Form, in) }
	sinceEnd, sinceBegin, never, err := f.after(expectation{has: in.Address, len: -1}, b.Timeout, put)
	if err != nil {
		return err
	}
	if never {
		b.report.text(k, "never")
		return nil
	}
	// A watcher may have it before the registration has returned; that counts as 0.
	b.report.add(k, "ms", milliseconds(max(sinceEnd, 0)))
	k.figure += ", since the write began"
	b.report.add(k, "ms", milliseconds(sinceBegin))
	return nil
}

// changes returns how many changes there are for one process of c. There are fewer if each takes seconds, as in large services and for
// contenders that poll. There are more in etcd, since times of tenths of a millisecond vary by as much, most of all in small services.
func (b *bench) changes(c contender.Contender, n int) int {
	switch {
	case c.Backend == "etcd" && n < 1000:
		return 2 * b.Changes
	case c.Backend == "etcd":
		return b.Changes
	case n > 1000 || c.Asks > 0:
		return max(1, b.Changes/3)
	}
	return b.Changes
}

// pause returns how long nothing happens before a change among the n instances that c follows. The changes of a group take turns, so two
// changes of one service are at least twice as far apart as Rollcall's sets of n instances are in a storm. For a contender that polls
// a random part of its interval is added. Otherwise each change would come just after a poll.
func (b *bench) pause(c contender.Contender, n, group int) time.Duration {
	spacing, perInstance := registry.DefaultSpacing, registry.DefaultSpacingPerInstance
	if c.Backend == "etcd" {
		spacing, perInstance = spacing/registry.PushedSpacing, perInstance/registry.PushedSpacingPerInstance
	}
	return max(b.Quiet, 2*max(spacing, time.Duration(n)*perInstance)/time.Duration(group)) + rand.N(c.Asks+1)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

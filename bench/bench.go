package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// scale is how much is done. The short one is for finding out whether the bench runs; its figures mean nothing.
type scale struct {
	Rounds      int // of every contender, one after another, in a changing order
	Sizes       []int
	Changes     int           // quiet: per process, and more or fewer of them by how long they take
	Lives       int           // quiet on etcd, and the ends of storms: processes of each, per round
	Quiet       time.Duration // quiet: before each change, at the least
	Storm       int           // instances
	Ends        int           // storm: small ones per process, for their ends
	SameService int           // crowd: watchers of one service
	Services    int           // crowd: watchers of services of their own
	Idle        time.Duration
	Idlers      int // crowd on etcd: processes of each, per round
	Outage      time.Duration
	Outages     int           // per round
	Witnesses   int           // loss: processes of each
	Patience    time.Duration // how long something may take before it counts as never
	Calls       time.Duration // per round, and twice as long while servers are replaced
	CallTurns   int
	PickTime    string // for -benchtime
	PickTurns   int
}

var (
	full = scale{Rounds: 3, Sizes: []int{10, 1000, 5000}, Changes: 12, Lives: 8, Quiet: 50 * time.Millisecond, Storm: 2000, Ends: 8, SameService: 1000, Services: 300,
		Idle: 30 * time.Second, Idlers: 12, Outage: 30 * time.Second, Outages: 3, Witnesses: 4, Patience: 75 * time.Second, Calls: 5 * time.Second, CallTurns: 10, PickTime: "50ms", PickTurns: 30}
	short = scale{Rounds: 1, Sizes: []int{100}, Changes: 1, Lives: 1, Quiet: 50 * time.Millisecond, Storm: 40, Ends: 1, SameService: 30, Services: 10,
		Idle: time.Second, Idlers: 1, Outage: 2 * time.Second, Outages: 1, Witnesses: 1, Patience: 8 * time.Second, Calls: time.Second, CallTurns: 2, PickTime: "1ms", PickTurns: 2}
)

// bench is one run.
type bench struct {
	scale
	stores   map[string]store
	backends []string
	among    []string // names of contenders; empty is all
	report   *report
	say      func(format string, a ...any)
}

// scenario is a part of the run. Its name is what the report calls it.
type scenario struct {
	name string
	run  func(*bench) error
}

var scenarios = []scenario{
	{"quiet", (*bench).quiet},
	{"storm", (*bench).storm},
	{"crowd", (*bench).crowd},
	{"loss", (*bench).loss},
	{"calls", (*bench).calls},
	{"picks", (*bench).picks},
}

// eachInTurn runs f for the contenders of a backend, Rounds times, in an order that moves on by one each time: what the machine
// does meanwhile falls on all of them.
func (b *bench) eachInTurn(scenario, backend string, f func(round int, c contender.Contender) error) error {
	list := b.contenders(backend)
	for round := range b.Rounds {
		for i := range list {
			c := list[(i+round)%len(list)]
			b.say("%s, %s, round %d of %d: %s", scenario, backend, round+1, b.Rounds, c.Name)
			if err := f(round, c); err != nil {
				return fmt.Errorf("%s, %s: %s: %w", scenario, backend, c.Name, err)
			}
		}
	}
	return nil
}

// contenders are those of a backend that take part.
func (b *bench) contenders(backend string) []contender.Contender {
	return slices.DeleteFunc(contender.Of(backend), func(c contender.Contender) bool {
		return len(b.among) > 0 && !slices.Contains(b.among, c.Name)
	})
}

// serviceOf is a service for one contender in one round.
func serviceOf(scenario string, c contender.Contender, round int) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(c.Name))
	return fmt.Sprintf("%s-%s-%d", scenario, plain, round)
}

// forms are those that the contenders of a backend read, each once.
func forms(backend string) (list []contender.Form) {
	seen := map[contender.Form]bool{}
	for _, c := range contender.Of(backend) {
		if !seen[c.Form] {
			seen[c.Form] = true
			list = append(list, c.Form)
		}
	}
	return list
}

// populate writes the instances in every form that somebody reads.
func (b *bench) populate(backend string, list []contender.Instance) error {
	for _, f := range forms(backend) {
		if err := b.stores[backend].put(f, list...); err != nil {
			return fmt.Errorf("populate: %w", err)
		}
	}
	return nil
}

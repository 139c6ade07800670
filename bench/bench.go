package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// scale is the size of a run. The short scale checks whether the bench runs; its figures mean nothing.
type scale struct {
	Rounds      int // of every contender, in turn, in a changing order
	Sizes       []int
	Changes     int           // quiet: per process; more if they are short, fewer if they are long
	Lives       int           // quiet on etcd, and the ends of storms: processes of each, per round
	Quiet       time.Duration // quiet: before each change, at the least
	Storm       int           // instances
	Ends        int           // storm: small ones per process, for their ends
	SameService int           // idle: watchers of one service
	Services    []int         // idle: watchers of a service each
	Idle        time.Duration
	Idlers      int   // idle on etcd: processes of each, per round
	Registers   []int // registrations: of one process
	Outage      time.Duration
	Outages     int           // per round
	Witnesses   int           // loss: processes of each
	Timeout     time.Duration // how long something may take before it counts as never
	Calls       time.Duration // per round, and twice as long while servers are replaced
	CallTurns   int
	PickTime    string // for -benchtime
	PickTurns   int
}

var (
	full = scale{Rounds: 3, Sizes: []int{10, 1000, 5000}, Changes: 12, Lives: 8, Quiet: 50 * time.Millisecond, Storm: 2000, Ends: 8, SameService: 1000, Services: []int{100, 128, 300},
		Idle: 30 * time.Second, Idlers: 12, Registers: []int{1, 100, 1000}, Outage: 30 * time.Second, Outages: 3, Witnesses: 4, Timeout: 75 * time.Second, Calls: 5 * time.Second, CallTurns: 10, PickTime: "50ms", PickTurns: 30}
	short = scale{Rounds: 1, Sizes: []int{100}, Changes: 1, Lives: 1, Quiet: 50 * time.Millisecond, Storm: 40, Ends: 1, SameService: 30, Services: []int{10},
		Idle: time.Second, Idlers: 1, Registers: []int{10}, Outage: 2 * time.Second, Outages: 1, Witnesses: 1, Timeout: 8 * time.Second, Calls: time.Second, CallTurns: 2, PickTime: "1ms", PickTurns: 2}
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

// scenario is a part of the run. The report uses its name.
type scenario struct {
	name string
	run  func(*bench) error
}

var scenarios = []scenario{
	{"quiet", (*bench).quiet},
	{"storm", (*bench).storm},
	{"idle", (*bench).idle},
	{"registrations", (*bench).registrations},
	{"loss", (*bench).loss},
	{"calls", (*bench).calls},
	{"http", (*bench).http},
	{"picks", (*bench).picks},
}

// eachInTurn runs f for the contenders of a backend, Rounds times, in an order that shifts by one each time, so that a slow second of
// the machine affects all of them.
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

// contenders returns the contenders of a backend that take part.
func (b *bench) contenders(backend string) []contender.Contender {
	return slices.DeleteFunc(contender.Of(backend), func(c contender.Contender) bool {
		return len(b.among) > 0 && !slices.Contains(b.among, c.Name)
	})
}

// serviceOf returns the name of a service for one contender in one round.
func serviceOf(scenario string, c contender.Contender, round int) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(c.Name))
	return fmt.Sprintf("%s-%s-%d", scenario, plain, round)
}

// forms returns the forms that the contenders of a backend read, each once.
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

// populate writes the instances in every form that a contender reads.
func (b *bench) populate(backend string, list []contender.Instance) error {
	for _, f := range forms(backend) {
		if err := b.stores[backend].put(f, list...); err != nil {
			return fmt.Errorf("populate: %w", err)
		}
	}
	return nil
}

package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// History is what happens to a few processes and their store. Its JSON form is kept in testdata if it has found a bug.
type History struct {
	Seed  uint64 `json:"seed"`  // decides which requests a fault hits
	World World  `json:"world"` // what stays the same
	Steps []Step `json:"steps"` // in the order of their times
}

// World has the settings of a history.
type World struct {
	Processes   int           `json:"processes"`
	TTL         time.Duration `json:"ttl"` // of the leases
	BackoffMax  time.Duration `json:"backoff_max"`
	OutageGrace time.Duration `json:"outage_grace"`
	Linger      time.Duration `json:"linger"`
	Departures  bool          `json:"departures"`   // the driver tells which instances were deregistered
	Pushes      bool          `json:"pushes"`       // Properties.Pushes
	NoticesCuts bool          `json:"notices_cuts"` // Wait fails when the store cannot be reached
}

// Step is one thing that happens.
type Step struct {
	At      time.Duration `json:"at"` // since the beginning
	Op      Op            `json:"op"`
	Process int           `json:"process"`
	// What the step is about. Service is also the key of a value.
	Service string `json:"service,omitempty"`
	ID      string `json:"id,omitempty"`
	// Content is new with each register, update and put. The store refuses content that begins with "bad".
	Content string `json:"content,omitempty"`
	Status  string `json:"status,omitempty"` // of an update: passing, critical or maintenance
	// For is the deadline of a call, and how long a fault lasts.
	For time.Duration `json:"for,omitempty"`
	// By is how much a fault delays, how old the state is that it shows, or how long a slow reader takes for each set.
	By time.Duration `json:"by,omitempty"`
}

// Op is what a [Step] does. Its text form is a word.
type Op string

// What the processes do.
const (
	Start       Op = "start" // after Close or Crash
	Close       Op = "close"
	Crash       Op = "crash" // the process is cut off for ever, and ends
	Register    Op = "register"
	Update      Op = "update"
	Deregister  Op = "deregister"
	Watch       Op = "watch"
	Break       Op = "break" // ends the oldest watch of the service by leaving its loop
	Cancel      Op = "cancel"
	Lookup      Op = "lookup"
	PutValue    Op = "put"
	DeleteValue Op = "delete"
	WatchValue  Op = "watch-value"
)

// What goes wrong. A fault hits one process, or all if Process is -1.
const (
	Refuse     Op = "refuse"      // no request is carried out, and each fails at once
	Deny       Op = "deny"        // the same with ErrDenied, but reads work
	HideAnswer Op = "hide-answer" // writes are carried out, and seem to fail
	Late       Op = "late"        // writes seem to fail, and are carried out after By
	Hang       Op = "hang"        // requests have no answer; some writes are carried out
	Slow       Op = "slow"        // each request takes By
	Old        Op = "old"         // reads show the state as it was By ago
	Flaky      Op = "flaky"       // each request meets one of these or none
	Forget     Op = "forget"      // the store loses one entry
	Restart    Op = "restart"     // the store is down for a while, and has all its data after that
	RestartOld Op = "restart-old" // the same, but some entries are lost
	Wipe       Op = "wipe"        // the same, but all data is lost
)

// isFault reports whether op is something that lasts and goes wrong.
func (op Op) isFault() bool {
	return slices.Contains([]Op{Refuse, Deny, HideAnswer, Late, Hang, Slow, Old, Flaky, Restart, RestartOld, Wipe}, op)
}

// isFaultOfStore reports whether op happens to the store, so that no process is named.
func (op Op) isFaultOfStore() bool {
	return slices.Contains([]Op{Forget, Restart, RestartOld, Wipe}, op)
}

const (
	maxLate = 3 * time.Second // of a write that seems to fail
	maxSlow = time.Second     // of a slow request
	maxOld  = 3 * time.Second // of an old state
	// requestLimit is when the driver gives up on a request or on a watch that has no answer.
	requestLimit = 2 * time.Second
)

var (
	services = []string{"web", "db"}
	ids      = []string{"a", "b", "c", "d"}
	keys     = []string{"config/x", "config/y"}
)

// Generate returns the history of a seed.
func Generate(seed uint64) History {
	g := &generator{random: rand.New(rand.NewPCG(seed, 1))}
	h := History{Seed: seed, World: g.world()}
	g.processes = h.World.Processes
	calm := g.oneOf(0, 0.2, 0.5) // how much of the history has no faults
	for range 8 + g.random.IntN(30) {
		g.pause()
		if g.random.Float64() < 0.3*(1-calm) {
			h.Steps = append(h.Steps, g.fault())
			continue
		}
		h.Steps = append(h.Steps, g.call()...)
	}
	return h
}

type generator struct {
	random    *rand.Rand
	processes int
	at        time.Duration
	contents  int
}

func (g *generator) oneOf(all ...float64) float64 { return all[g.random.IntN(len(all))] }

func (g *generator) durationOf(all ...time.Duration) time.Duration {
	return all[g.random.IntN(len(all))]
}

func (g *generator) upTo(d time.Duration) time.Duration {
	return time.Duration(g.random.Int64N(int64(d))).Round(time.Millisecond)
}

func (g *generator) either() bool { return g.random.IntN(2) == 0 }

func (g *generator) world() World {
	return World{
		Processes:   2 + g.random.IntN(2),
		TTL:         g.durationOf(3*time.Second, 6*time.Second, 15*time.Second),
		BackoffMax:  g.durationOf(500*time.Millisecond, 1400*time.Millisecond),
		OutageGrace: g.durationOf(4*time.Second, 10*time.Second),
		Linger:      g.durationOf(-1, time.Second, 30*time.Second),
		Departures:  g.either(), Pushes: g.either(), NoticesCuts: g.either(),
	}
}

// pause lets some steps follow one another at once, and most after a while.
func (g *generator) pause() {
	switch g.random.IntN(6) {
	case 0:
	case 1:
		g.at += g.upTo(20 * time.Millisecond)
	case 2:
		g.at += g.upTo(8 * time.Second)
	default:
		g.at += g.upTo(1500 * time.Millisecond)
	}
}

// call returns a step of a process. Some are several at once: a service whose instances are all registered, or an instance that
// is registered by two processes.
func (g *generator) call() []Step {
	s := Step{At: g.at, Process: g.random.IntN(g.processes), Service: services[g.random.IntN(len(services))], For: g.deadline()}
	switch n := g.random.IntN(100); {
	case n < 25:
		return g.registerSome(s)
	case n < 45:
		s.Op, s.ID, s.Status = Update, g.id(), "passing"
		s.Content = g.content()
		if g.random.IntN(4) == 0 {
			s.Status = []string{"critical", "maintenance"}[g.random.IntN(2)]
		}
	case n < 57:
		s.Op, s.ID = Deregister, g.id()
	case n < 70:
		s.Op, s.For = Watch, 0
		if g.random.IntN(5) == 0 {
			s.By = g.upTo(2 * time.Second)
		}
	case n < 75:
		s.Op, s.For = []Op{Break, Cancel}[g.random.IntN(2)], 0
	case n < 83:
		s.Op = Lookup
	case n < 86:
		s.Op, s.For, s.Service = []Op{Close, Crash}[g.random.IntN(2)], 0, ""
		next := Step{At: g.at + g.upTo(3*time.Second), Op: Start, Process: s.Process}
		g.at = next.At
		return []Step{s, next}
	case n < 92:
		s.Op, s.Service, s.Content = PutValue, keys[g.random.IntN(len(keys))], g.content()
	case n < 95:
		s.Op, s.Service = DeleteValue, keys[g.random.IntN(len(keys))]
	default:
		s.Op, s.Service, s.For = WatchValue, keys[g.random.IntN(len(keys))], 0
	}
	return []Step{s}
}

func (g *generator) registerSome(s Step) (steps []Step) {
	s.Op = Register
	n := 1
	if g.random.IntN(4) == 0 {
		n = len(ids)
	}
	first := g.random.IntN(len(ids))
	for i := range n {
		s.ID, s.Content = ids[(first+i)%len(ids)], g.content()
		steps = append(steps, s)
	}
	return steps
}

func (g *generator) id() string { return ids[g.random.IntN(len(ids))] }

// content returns content that no other step has. The store refuses some.
func (g *generator) content() string {
	g.contents++
	if g.random.IntN(15) == 0 {
		return fmt.Sprintf("bad%d", g.contents)
	}
	return fmt.Sprintf("v%d", g.contents)
}

func (g *generator) deadline() time.Duration {
	return g.durationOf(100*time.Millisecond, time.Second, 5*time.Second, 20*time.Second)
}

func (g *generator) fault() Step {
	all := []Op{Refuse, Refuse, Deny, HideAnswer, Late, Hang, Slow, Old, Flaky, Flaky, Forget, Forget, Restart, RestartOld, Wipe}
	s := Step{At: g.at, Op: all[g.random.IntN(len(all))], Process: g.random.IntN(g.processes+1) - 1}
	s.For = g.durationOf(100*time.Millisecond, time.Second, 5*time.Second, 15*time.Second) + g.upTo(time.Second)
	switch s.Op {
	case Late:
		s.By = g.upTo(maxLate)
	case Slow:
		s.By = g.upTo(maxSlow)
	case Old:
		s.By = g.upTo(maxOld)
	case Forget:
		s.Service, s.ID, s.For = services[g.random.IntN(len(services))], g.id(), 0
	}
	if s.Op.isFaultOfStore() {
		s.Process = -1
	}
	return s
}

// end returns when the last step is over and every fault has ended.
func (h History) end() time.Duration {
	var end time.Duration
	for _, s := range h.Steps {
		over := s.At
		if s.Op.isFault() {
			over += s.For
		}
		end = max(end, over)
	}
	return end + maxLate
}

// settlingTime is how long after the last fault everything has converged:
//
//   - requests that had no answer have ended,
//   - a registration that was lost is registered again, and a registration that yields has looked again,
//   - entries without an owner have expired,
//   - sets that are withheld, for both grace periods one after the other, are published.
func (w World) settlingTime() time.Duration {
	retry := 2*w.BackoffMax + 2*requestLimit
	return retry + w.TTL + w.OutageGrace + w.shortGrace() + releaseTimeout + time.Second
}

// releaseTimeout is how long registry tries to release what a Register that gave up has left, in the background.
const releaseTimeout = 5 * time.Second

// shortGrace is the shorter grace period of registry's documentation.
func (w World) shortGrace() time.Duration { return min(w.BackoffMax+time.Second, w.OutageGrace) }

// String returns the history as a table.
func (h History) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d processes, TTL %v, BackoffMax %v, OutageGrace %v, Linger %v, departures %v, pushes %v, notices cuts %v\n", h.Seed,
		h.World.Processes, h.World.TTL, h.World.BackoffMax, h.World.OutageGrace, h.World.Linger, h.World.Departures, h.World.Pushes, h.World.NoticesCuts)
	for _, s := range h.Steps {
		fmt.Fprintf(&b, "%10v  %v\n", s.At, s)
	}
	return b.String()
}

// String returns the step without its time.
func (s Step) String() string {
	who := fmt.Sprintf("p%d", s.Process)
	if s.Process < 0 {
		who = "all"
	}
	text := fmt.Sprintf("%-3s %-11s %s", who, s.Op, s.Service)
	if s.ID != "" {
		text += "/" + s.ID
	}
	for _, word := range []string{s.Content, s.Status} {
		if word != "" {
			text += " " + word
		}
	}
	if s.For != 0 {
		text += fmt.Sprintf(" for %v", s.For)
	}
	if s.By != 0 {
		text += fmt.Sprintf(" by %v", s.By)
	}
	return strings.TrimRight(text, " ")
}

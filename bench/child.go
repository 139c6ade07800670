package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// A contender runs in a separate process, so that its CPU, memory and connections can be measured. The bench sends requests and the
// process answers, with one line of JSON each.

// ask is one request to such a process.
type ask struct {
	Do       string        // open, watch, register, probe, expect, await, usage, reset, calls
	Backend  string        // open
	Name     string        // open
	Address  string        // open: of the registry, through the proxy that counts
	Service  string        // watch, register, probe, calls
	Has      string        // expect: an address that the set must have; "" is any
	Hasnt    string        // expect: an address that it must not have
	Len      int           // expect: how many the set must have; -1 is any. register: how many
	Limit    time.Duration // await; calls: how long
	Static   []string      // calls: a static list of addresses in place of the resolver
	Parallel int           // calls
}

// answer is the answer to it.
type answer struct {
	Error string        `json:",omitempty"`
	At    time.Time     // await: when the set was first as expected; if no set came since, when the last one came
	Never bool          // await: it was not within Limit
	CPU   time.Duration // usage: of the process, since it began
	From  time.Duration // usage: the same after the collection, which the next measurement must not include
	RSS   int64         // usage: bytes that the process occupies
	Heap  uint64        // usage: bytes, after a collection
	Goros int           // usage
	Sets  int           // usage: sets that all watchers together were given since reset
	Empty int           // usage: how many of those were empty
	First int           // usage: watchers that were ever given a set with instances
	Last  time.Time     // usage: when the last set came
	Size  int           // usage: of the last set
	Calls callsAnswer   // calls
}

// watched is what the watchers of the process were given.
type watched struct {
	mu          sync.Mutex
	sets, empty int
	first       int
	last        time.Time        // when the last one came
	set         contender.Set    // the last one
	kept        []*contender.Set // the last one of each watcher
	has, hasnt  string
	length      int
	satisfied   chan time.Time // nil if nothing is expected
}

// expected reports whether the last set is as expected. w.mu is locked.
func (w *watched) expected() bool {
	s := w.set
	return (w.length < 0 || s.Len == w.length) && (w.has == "" || s.Has(w.has)) && (w.hasnt == "" || !s.Has(w.hasnt))
}

// settled returns when the last set came, and whether that set is as expected. A contender that polls may have missed all changes,
// and still have had a correct set all the time.
func (w *watched) settled() (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, !w.last.IsZero() && w.expected()
}

// watcher returns the function that receives the sets of one watcher. It keeps the last set, as a user would.
func (w *watched) watcher() func(contender.Set) {
	seen := false
	kept := new(contender.Set)
	w.mu.Lock()
	w.kept = append(w.kept, kept)
	w.mu.Unlock()
	return func(s contender.Set) {
		now := time.Now()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sets++
		*kept = s
		w.last, w.set = now, s
		if s.Len == 0 {
			w.empty++
		} else if !seen {
			seen = true
			w.first++
		}
		if w.satisfied != nil && w.expected() {
			w.satisfied <- now
			w.satisfied = nil
		}
	}
}

// serveChild answers requests until the input ends.
func serveChild(in io.Reader, out io.Writer) {
	var (
		client  contender.Client
		conf    contender.Contender
		address string
		state   watched
		waiting chan time.Time
		lines   = bufio.NewScanner(in)
		encoder = json.NewEncoder(out)
	)
	handle := func(q ask) (a answer, err error) {
		switch q.Do {
		case "open":
			var ok bool
			if conf, ok = contender.Named(q.Backend, q.Name); !ok {
				return a, fmt.Errorf("no contender %q for %s", q.Name, q.Backend)
			}
			address = q.Address
		case "watch":
			if client == nil {
				if client, err = conf.Open(address); err != nil {
					return a, err
				}
			}
			return a, client.Watch(q.Service, state.watcher())
		case "register":
			r, err := conf.Register(address)
			if err != nil {
				return a, err
			}
			return a, registerAll(r, q.Service, q.Len)
		case "probe":
			contender.Probed(state.watcher())
			_, _, err = conf.Dial(address, q.Service, contender.Probe, grpc.WithTransportCredentials(insecure.NewCredentials()))
			return a, err
		case "expect":
			state.mu.Lock()
			defer state.mu.Unlock()
			waiting = make(chan time.Time, 1)
			state.has, state.hasnt, state.length, state.satisfied = q.Has, q.Hasnt, q.Len, waiting
		case "await":
			select {
			case a.At = <-waiting:
			case <-time.After(q.Limit):
				if at, ok := state.settled(); ok {
					a.At = at
				} else {
					a.Never = true
				}
			}
		case "reset":
			state.mu.Lock()
			defer state.mu.Unlock()
			state.sets, state.empty = 0, 0
		case "usage":
			a.CPU, a.RSS, a.Goros = consumed(), resident(), runtime.NumGoroutine()
			runtime.GC()
			runtime.GC() // the second one frees what a sync.Pool keeps
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			a.Heap, a.From = m.HeapAlloc, consumed()
			state.mu.Lock()
			defer state.mu.Unlock()
			a.Sets, a.Empty, a.First, a.Last, a.Size = state.sets, state.empty, state.first, state.last, state.set.Len
		case "calls":
			a.Calls, err = makeCalls(conf, address, q)
		default:
			err = fmt.Errorf("no such request: %q", q.Do)
		}
		return a, err
	}
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q ask
		err := json.Unmarshal(lines.Bytes(), &q)
		var a answer
		if err == nil {
			a, err = handle(q)
		}
		if err != nil {
			a.Error = err.Error()
		}
		encoder.Encode(a)
	}
}

// consumed returns the CPU time of this process.
func consumed() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns how many bytes this process occupies, or 0 if the system does not say.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
}

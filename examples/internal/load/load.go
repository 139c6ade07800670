// Package load calls the greeter service at a steady rate, and counts the answers of each server.
package load

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/examples/greeting"
)

// callTimeout bounds each call, so that a call without an answer is an error.
const callTimeout = 5 * time.Second

// MaxInFlight bounds the calls in flight. A call that is due while there are as many is left out: on a machine that is too slow for the rate,
// calls would pile up until they all time out.
const MaxInFlight = 64

// Calls counts calls. It is safe for concurrent use.
type Calls struct {
	mu     sync.Mutex
	total  int
	server map[string]int // answered, by address
	failed map[string]int // by address, or "" if no server was reached
	errors []error        // the first few
	work   sync.WaitGroup
}

// Start makes rate calls a second over cc until ctx ends, or fewer if the calls take too long: see [MaxInFlight]. Calls in flight may still finish then.
func Start(ctx context.Context, cc grpc.ClientConnInterface, rate int) (*Calls, error) {
	if rate < 1 || rate > 100_000 {
		return nil, fmt.Errorf("rate: %d is not from 1 to 100000 calls a second", rate)
	}
	c := &Calls{server: map[string]int{}, failed: map[string]int{}}
	c.work.Go(func() { c.run(ctx, cc, rate) })
	return c, nil
}

// run starts a call whenever one is due. It catches up after a pause, as far as MaxInFlight allows.
func (c *Calls) run(ctx context.Context, cc grpc.ClientConnInterface, rate int) {
	tick := time.NewTicker(max(time.Second/time.Duration(rate), time.Millisecond))
	defer tick.Stop()
	start, due := time.Now(), 0
	slots := make(chan struct{}, MaxInFlight)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for now := int(time.Since(start).Seconds() * float64(rate)); due < now; due++ {
				select {
				case slots <- struct{}{}:
					c.work.Go(func() {
						defer func() { <-slots }()
						c.call(context.WithoutCancel(ctx), cc)
					})
				default:
				}
			}
		}
	}
}

func (c *Calls) call(ctx context.Context, cc grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var p peer.Peer
	_, err := greeting.Greet(ctx, cc, "world", grpc.Peer(&p))
	who := ""
	if p.Addr != nil {
		who = p.Addr.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if err == nil {
		c.server[who]++
		return
	}
	c.failed[who]++
	if len(c.errors) == 0 {
		slog.Warn("a call failed, further failures are counted only", "error", err)
	}
	if len(c.errors) < 5 {
		c.errors = append(c.errors, err)
	}
}

// Wait blocks until the ctx of Start and the last call have ended.
func (c *Calls) Wait() { c.work.Wait() }

// Answered returns how many calls the server at address has answered.
func (c *Calls) Answered(address string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server[address]
}

// Failed returns the number of failed calls by the address of their server, or "" if no server was reached.
func (c *Calls) Failed() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.failed)
}

// Count returns how many calls have ended, how many of them failed, and the first few errors.
func (c *Calls) Count() (total, failed int, first []error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.failed {
		failed += n
	}
	return c.total, failed, slices.Clone(c.errors)
}

// Table returns a line for each server, and one for all.
func (c *Calls) Table() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(name string, calls, errors int) { fmt.Fprintf(w, "%s\t%d\t%d\t\n", name, calls, errors) }
	fmt.Fprint(w, "server\tcalls\terrors\t\n")
	servers := map[string]bool{}
	for s := range c.server {
		servers[s] = true
	}
	failed := 0
	for s, n := range c.failed {
		servers[s] = true
		failed += n
	}
	for _, s := range slices.Sorted(maps.Keys(servers)) {
		name := s
		if name == "" {
			name = "(none reached)"
		}
		row(name, c.server[s]+c.failed[s], c.failed[s])
	}
	row("all", c.total, failed)
	w.Flush()
	for _, err := range c.errors {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

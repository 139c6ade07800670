// Package load calls the greeter service at a steady rate, and counts who answered.
package load

import (
	"context"
	"fmt"
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

// callTimeout bounds each call: one that nobody answers is an error, not a wait.
const callTimeout = 5 * time.Second

// Calls counts what has been called so far. It is safe for concurrent use.
type Calls struct {
	mu     sync.Mutex
	total  int
	server map[string]int // answered, by address
	failed map[string]int // by address, or "" where no server was reached
	errors []error        // the first few
	work   sync.WaitGroup
}

// Start makes rate calls a second over cc until ctx ends. Calls in flight then may finish.
func Start(ctx context.Context, cc grpc.ClientConnInterface, rate int) (*Calls, error) {
	if rate < 1 || rate > 100_000 {
		return nil, fmt.Errorf("rate: %d is not from 1 to 100000 calls a second", rate)
	}
	c := &Calls{server: map[string]int{}, failed: map[string]int{}}
	c.work.Go(func() { c.run(ctx, cc, rate) })
	return c, nil
}

// run starts a call whenever one is due. It catches up after a pause, so that the rate holds on a busy machine.
func (c *Calls) run(ctx context.Context, cc grpc.ClientConnInterface, rate int) {
	tick := time.NewTicker(max(time.Second/time.Duration(rate), time.Millisecond))
	defer tick.Stop()
	start, started := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for due := int(time.Since(start).Seconds() * float64(rate)); started < due; started++ {
				c.work.Go(func() { c.call(context.WithoutCancel(ctx), cc) })
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
	if len(c.errors) < 5 {
		c.errors = append(c.errors, err)
	}
}

// Wait blocks until the last call has ended, which takes the end of Start's ctx.
func (c *Calls) Wait() { c.work.Wait() }

// Answered returns how many calls the server at address has answered.
func (c *Calls) Answered(address string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server[address]
}

// Failed returns how many calls have failed, by the address of the server that had them, and "" where none was reached.
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

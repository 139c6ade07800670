package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/examples/greeting"
)

// timeoutServer is a server that answers with its address and the timeout of the call.
type timeoutServer string

// Greet implements [greeting.Server].
func (s timeoutServer) Greet(ctx context.Context, _ string) (string, error) {
	timeout := "no timeout"
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline).Round(time.Second).String()
	}
	return string(s) + " " + timeout, nil
}

// summary says how a round of calls was made.
type summary struct {
	servers int
	timeout string
}

// calls makes calls, and writes how they are made whenever that changes.
type calls struct {
	mu      sync.Mutex // guards what follows
	out     io.Writer
	last    summary
	changed chan struct{} // closed, and replaced, when last changes
	total   int
	failed  int
}

func newCalls(out io.Writer) *calls { return &calls{out: out, changed: make(chan struct{})} }

// roundSize is enough calls for each of three servers to get some, by any policy but pick_first.
const roundSize = 30

// run makes calls until ctx ends.
func (c *calls) run(ctx context.Context, conn *grpc.ClientConn) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c.round(ctx, conn)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// round makes a few calls, and ends after the call during which ctx ends. While the service config changes, they differ, and are no summary.
func (c *calls) round(ctx context.Context, conn *grpc.ClientConn) {
	servers, timeouts := map[string]bool{}, map[string]bool{}
	var failed int
	var last string
	for range roundSize {
		if ctx.Err() != nil {
			return
		}
		answer, err := greeting.Greet(context.WithoutCancel(ctx), conn, "world", grpc.WaitForReady(true))
		if err != nil {
			failed++
			continue
		}
		server, timeout, _ := strings.Cut(answer, " ")
		servers[server], timeouts[timeout], last = true, true, timeout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += roundSize
	c.failed += failed
	if s := (summary{len(servers), last}); s != c.last && len(timeouts) == 1 {
		c.last = s
		close(c.changed)
		c.changed = make(chan struct{})
		fmt.Fprintf(c.out, "  calls go to %d of 3 servers, with a timeout of %s\n", s.servers, s.timeout)
	}
}

// wait blocks until the calls are made as wanted.
func (c *calls) wait(ctx context.Context, want summary) error {
	for {
		c.mu.Lock()
		last, changed := c.last, c.changed
		c.mu.Unlock()
		if last == want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("calls go to %d servers with a timeout of %q, and not to %d with %q: %w", last.servers, last.timeout, want.servers, want.timeout, ctx.Err())
		}
	}
}

// makeMore blocks until so many calls more were made.
func (c *calls) makeMore(ctx context.Context, n int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for enough := c.made() + n; c.made() < enough; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// say writes a line.
func (c *calls) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format+"\n", args...)
}

func (c *calls) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *calls) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

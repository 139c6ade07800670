package conn

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
)

// reconnect is how long gRPC pauses between attempts to connect. The pauses grow to 8 s, not to two minutes as by default, so that a watch
// recovers soon after an outage of any length. Writes do not wait for the end of a pause: see ReconnectNow.
var reconnect = backoff.Config{BaseDelay: 600 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 8 * time.Second}

const (
	// reconnectPause is the least time between two attempts of ReconnectNow.
	reconnectPause = time.Second
	// reconnectWait is how long ReconnectNow waits for its attempt. An attempt that takes longer serves the next call.
	reconnectWait = 250 * time.Millisecond
)

// ReconnectNow attempts to connect at once if no member is connected, and waits for it for a moment. A lost registration must be back
// before readers get a suspect set, and a caller of Lookup waits for the answer.
func (c *Conn) ReconnectNow(ctx context.Context) {
	if c.conn.GetState() != connectivity.TransientFailure {
		return
	}
	if c.reconnects.isDue(time.Now()) {
		c.ResetBackoff()
	}
	c.awaitConnection(ctx, reconnectWait)
}

// reconnects limits the attempts of ReconnectNow.
type reconnects struct {
	mu   sync.Mutex
	last time.Time
}

// isDue reports whether an attempt may be made now, and if so notes it.
func (r *reconnects) isDue(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < reconnectPause {
		return false
	}
	r.last = now
	return true
}

// awaitConnection waits until a member is connected, for limit at most.
func (c *Conn) awaitConnection(ctx context.Context, limit time.Duration) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		switch state := c.conn.GetState(); state {
		case connectivity.Connecting, connectivity.TransientFailure:
			if !c.conn.WaitForStateChange(limited, state) {
				return
			}
		default:
			return
		}
	}
}

// restartSpread is how far apart the watches of a process restart on average after they have waited for a connection. Each of them reads a
// whole set, and the etcd may have just started.
const restartSpread = 2 * time.Millisecond

// AwaitRestart waits until a member is connected, for Timeout at most. If it had to wait, it then makes a random pause, which is longer the
// more callers wait.
func (c *Conn) AwaitRestart(ctx context.Context) {
	callers := c.waiting.Add(1)
	defer c.waiting.Add(-1)
	if c.conn.GetState() == connectivity.Ready {
		return
	}
	c.awaitConnection(ctx, c.Timeout)
	pause := time.NewTimer(rand.N(time.Duration(callers) * restartSpread))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

package consul

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A server without a leader keeps a read, and looks again after waits that double: up to 0.4 s at first, 3.5 s in the end
// (ForwardRPC and getWaitTime in Consul's agent/consul/rpc.go). Who reads early in an election hears of its end seconds late, and
// holds a connection meanwhile. So after a read that failed, the leader is asked for first, by one of all that wait for it at an
// agent; any server answers that at once.
const (
	electionLeast = 150 * time.Millisecond
	electionMost  = 300 * time.Millisecond
)

const errLeaderless = ours("No cluster leader") // as Consul says it

// elections are those of the datacenters that an agent is asked about, by their names.
type elections struct {
	mu sync.Mutex
	of map[string]*election
}

func (e *elections) in(datacenter string) *election {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of[datacenter] == nil {
		if e.of == nil {
			e.of = map[string]*election{}
		}
		e.of[datacenter] = &election{turn: make(chan struct{}, 1)}
	}
	return e.of[datacenter]
}

// election is what is known of one.
type election struct {
	turn chan struct{} // holds a token while somebody asks; guards what is below
	at   time.Time     // of the last outcome
	err  error         // which it is
}

// lacksLeader reports whether err says that the servers have no leader, in Consul's words or in ours.
func lacksLeader(err error) bool { return strings.Contains(err.Error(), string(errLeaderless)) }

// elected blocks until there is a leader. Where it cannot be found out whether there is one, it returns nil: a read says more.
func (d *driver) elected(ctx context.Context, what string) error {
	asked := time.Now()
	return d.call(ctx, what, d.settings.Timeout, func(ctx context.Context) error {
		e := d.agent.elections.in(d.settings.Datacenter)
		select {
		case e.turn <- struct{}{}:
			defer func() { <-e.turn }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !e.at.Before(asked) {
			return e.err
		}
		err := d.awaitLeader(ctx)
		if ctx.Err() == nil { // else it is the outcome of this call alone
			e.at, e.err = time.Now(), err
		}
		return err
	})
}

func (d *driver) awaitLeader(ctx context.Context) error {
	for {
		leader, err := d.leader(ctx)
		var u *url.Error
		switch {
		case ctx.Err() == nil && errors.As(err, &u):
			return err // there was no answer
		case ctx.Err() == nil && (err != nil || leader != ""):
			return nil
		}
		again := time.NewTimer(electionLeast + rand.N(electionMost-electionLeast))
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			if cause := context.Cause(ctx); err != nil || !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return errLeaderless
		}
	}
}

// leader asks for the address of the leader, which is empty where there is none.
func (d *driver) leader(ctx context.Context) (leader string, err error) {
	if err := d.rate.wait(ctx); err != nil {
		return "", err
	}
	at, err := d.agent.crowd.enter(ctx, lookup)
	if err != nil {
		return "", err
	}
	got := capture{statusOnly: true}
	o := d.agentOptions(captured(ctx, &got))
	o.Datacenter = d.settings.Datacenter
	leader, err = d.client.Status().LeaderWithQueryOptions(o)
	at.leave(got.status, got.version)
	return leader, err
}

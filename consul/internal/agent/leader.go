package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// Without a leader, a server keeps a read and checks again after waits that double: up to 0.4 s at first, 7 s in the end (ForwardRPC and
// getWaitTime in Consul's agent/consul/rpc.go). A read that is sent early in an election therefore returns seconds after its end, and keeps
// a connection meanwhile. So after a read that failed, the leader is asked for first, by one of all calls that wait for it at an agent. A
// server answers that from memory.
const (
	leaderPause = 300 * time.Millisecond // the longest pause between two questions; the shortest is half of it
	// usualElection is longer than most elections take. A longer one may be in a cluster without a majority, for hours: from then on
	// longLeaderPause replaces leaderPause.
	usualElection   = 5 * time.Second
	longLeaderPause = 1500 * time.Millisecond
	// leaderTimeout limits each question for the leader.
	leaderTimeout = 3 * time.Second

	// LeaderKnownFor is how long an election counts as over without another question.
	LeaderKnownFor = time.Second
	// MaxLeaderTries is how many attempts in a row may fail because of what AwaitLeader returns. Then a read must be tried, since there may
	// be something before Consul that does not know of leaders.
	MaxLeaderTries = 3
)

// ErrNoLeader is the failure of AwaitLeader if there is no leader. Its text is Consul's.
const ErrNoLeader = Fault("No cluster leader")

// LacksLeader reports whether err says that the servers have no leader, in Consul's words or with ErrNoLeader.
func LacksLeader(err error) bool { return strings.Contains(err.Error(), string(ErrNoLeader)) }

// elections are the elections in the datacenters that an agent was asked about.
type elections struct {
	mu           sync.Mutex
	byDatacenter map[string]*election
}

func (e *elections) in(datacenter string) *election {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byDatacenter[datacenter] == nil {
		if e.byDatacenter == nil {
			e.byDatacenter = map[string]*election{}
		}
		e.byDatacenter[datacenter] = &election{asking: make(chan struct{}, 1)}
	}
	return e.byDatacenter[datacenter]
}

// election is what is known of the leader of one datacenter.
type election struct {
	noLeader atomic.Bool // there was no leader at the last question

	asking chan struct{} // has a token while a call asks; guards the fields below
	since  time.Time     // since when no leader is known; zero if nothing is known
	next   time.Time     // when to ask again at the earliest
	at     time.Time     // of the last outcome
	err    error         // the last outcome
}

// AwaitLeader blocks until the datacenter has a leader. If the answer does not say whether it has one, AwaitLeader returns nil: a read says
// more.
func (a *Agent) AwaitLeader(ctx context.Context, q Request, datacenter string) error {
	e := a.elections.in(datacenter)
	began := time.Now()
	return a.Call(ctx, q, func(ctx context.Context) error {
		select {
		case e.asking <- struct{}{}:
			defer func() { <-e.asking }()
		case <-ctx.Done():
			return e.overdue(ctx)
		}
		if !e.at.Before(began) || e.err == nil && began.Sub(e.at) < LeaderKnownFor {
			return e.err
		}
		for sleep.For(ctx, time.Until(e.next)) {
			if over, err := e.ask(ctx, a, datacenter); over {
				e.at, e.err = time.Now(), err
				return err
			}
		}
		return e.overdue(ctx) // which is the outcome of this call only
	})
}

// BlockElection makes the calls of AwaitLeader for the datacenter wait until release is called. It is for tests.
func (a *Agent) BlockElection(datacenter string) (release func()) {
	e := a.elections.in(datacenter)
	e.asking <- struct{}{}
	return func() { <-e.asking }
}

// ask asks a for the leader. It reports whether there is an outcome. The caller has the token of asking.
func (e *election) ask(ctx context.Context, a *Agent, datacenter string) (over bool, err error) {
	limited, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	leader, err := a.leader(limited, datacenter)
	var fault Fault
	var transport *url.Error
	var status api.StatusError
	switch {
	case limited.Err() != nil: // the next connection may do better
	case errors.As(err, &transport) && !errors.As(err, &fault) && !errors.As(err, new(UnmarkedError)), errors.As(err, &status) && status.Code >= http.StatusInternalServerError:
		over = true // there is no answer, or there are no servers
	case err != nil || leader != "":
		over, err = true, nil
	default:
		e.noLeader.Store(true)
		if e.since.IsZero() {
			e.since = time.Now()
		}
	}
	if over {
		e.noLeader.Store(false)
		e.since, e.next = time.Time{}, time.Time{}
		return true, err
	}
	pause := leaderPause
	if !e.since.IsZero() && time.Since(e.since) > usualElection {
		pause = longLeaderPause
	}
	e.next = time.Now().Add(pause/2 + rand.N(pause/2))
	return false, nil
}

// overdue returns why a call ended whose ctx is over.
func (e *election) overdue(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != context.DeadlineExceeded || !e.noLeader.Load() {
		return cause
	}
	return ErrNoLeader
}

// leader asks for the address of the leader, which is empty if there is none. It needs no slot: there is one such call at a time for a
// datacenter, and all others wait for it.
func (a *Agent) leader(ctx context.Context, datacenter string) (string, error) {
	o := a.Options(ctx)
	o.Datacenter = datacenter
	return a.Client.Status().LeaderWithQueryOptions(o)
}

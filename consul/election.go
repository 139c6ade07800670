package consul

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
)

// A server without a leader keeps a read, and looks again after waits that double: up to 0.4 s at first, 7 s in the end (ForwardRPC
// and getWaitTime in Consul's agent/consul/rpc.go). Who reads early in an election hears of its end seconds late, and holds a
// connection meanwhile. So after a read that failed, the leader is asked for first, by one of all that wait for it at an agent; a
// server answers that from memory.
const (
	electionPause = 300 * time.Millisecond // at the most, and half of it at the least
	// electionUsual is longer than most elections take. One that goes on may be that of a cluster without a majority, for hours:
	// from then on electionLongPause takes the place of electionPause.
	electionUsual     = 5 * time.Second
	electionLongPause = 1500 * time.Millisecond
	// electionLimit is for each time that the leader is asked for.
	electionLimit = 3 * time.Second
	// electionNews is how long an election counts as over without being asked about.
	electionNews = time.Second
	// electionTries is how many attempts in a row may fail by what is found out here: a read has the last word, since there may
	// be something before Consul that does not know of leaders.
	electionTries = 3
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
	lacking atomic.Bool   // there was no leader when somebody asked last
	turn    chan struct{} // holds a token while somebody asks; guards what is below
	since   time.Time     // when that was found out first; zero while nothing of it is known
	next    time.Time     // when to ask again at the earliest
	at      time.Time     // of the last outcome
	err     error         // which it is
}

// lacksLeader reports whether err says that the servers have no leader, in Consul's words or in ours.
func lacksLeader(err error) bool { return strings.Contains(err.Error(), string(errLeaderless)) }

// elected blocks until there is a leader. Where an answer does not say whether there is one, it returns nil: a read says more.
func (d *driver) elected(ctx context.Context, what string) error {
	e := d.agent.elections.in(d.settings.Datacenter)
	asked := time.Now()
	return d.call(ctx, what, d.settings.Timeout, func(ctx context.Context) error {
		select {
		case e.turn <- struct{}{}:
			defer func() { <-e.turn }()
		case <-ctx.Done():
			return e.overdue(ctx)
		}
		if !e.at.Before(asked) || e.err == nil && asked.Sub(e.at) < electionNews {
			return e.err
		}
		for e.wait(ctx) {
			if over, err := e.ask(ctx, d); over {
				e.at, e.err = time.Now(), err
				return err
			}
		}
		return e.overdue(ctx) // which is the outcome of this call alone
	})
}

// wait blocks until the leader may be asked for. It reports whether ctx is still alive. The caller has its turn.
func (e *election) wait(ctx context.Context) bool {
	t := time.NewTimer(time.Until(e.next))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ask asks d for the leader. It reports whether there is an outcome. The caller has its turn.
func (e *election) ask(ctx context.Context, d *driver) (over bool, err error) {
	asking, cancel := context.WithTimeout(ctx, electionLimit)
	defer cancel()
	leader, err := d.leader(asking)
	var own ours
	var u *url.Error
	var status api.StatusError
	switch {
	case asking.Err() != nil: // the next connection may do better
	case errors.As(err, &u) && !errors.As(err, &own), errors.As(err, &status) && status.Code >= http.StatusInternalServerError:
		over = true // there is no answer, or are no servers
	case err != nil || leader != "":
		over, err = true, nil
	default:
		e.lacking.Store(true)
		if e.since.IsZero() {
			e.since = time.Now()
		}
	}
	if over {
		e.lacking.Store(false)
		e.since, e.next = time.Time{}, time.Time{}
		return true, err
	}
	pause := electionPause
	if !e.since.IsZero() && time.Since(e.since) > electionUsual {
		pause = electionLongPause
	}
	e.next = time.Now().Add(pause/2 + rand.N(pause/2))
	return false, nil
}

// overdue is why a call has ended whose ctx is over.
func (e *election) overdue(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != context.DeadlineExceeded || !e.lacking.Load() {
		return cause
	}
	return errLeaderless
}

// leader asks for the address of the leader, which is empty where there is none. It takes no place of other calls, and nothing of
// the rate: of a datacenter there is one at a time, and what waits for it is all the others.
func (d *driver) leader(ctx context.Context) (string, error) {
	o := d.agentOptions(ctx)
	o.Datacenter = d.settings.Datacenter
	return d.client.Status().LeaderWithQueryOptions(o)
}

package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// agent is one of the agents or servers of a Config, with a client of its own.
type agent struct {
	location string // host:port, or unix:///path
	secure   bool   // over TLS
	client   *api.Client
	end      func() // of the transport
	crowd    *crowd // of the calls to it

	elections elections // that it has been asked about

	calls map[*call]struct{} // in flight; guarded by agents.mu
	rest  context.CancelFunc // ends the probing of this agent; nil while no call is in flight
}

// call is one that is in flight. It is cut off where its agent is found to hang.
type call struct{ cut context.CancelCauseFunc }

// agents are all agents of a driver, of which one is in use for whatever does not belong to one of them. It stays in use until
// a call fails in a way that another agent may be spared; then it is the next one's turn. There is no way back but
// round: an agent that comes and goes would otherwise move every watch and every new announcement each time.
type agents struct {
	all []*agent

	mu  sync.Mutex
	now int // which of all is in use
	// entries are those that were written and not removed, by the ID of the service: the mark at each agent.
	entries map[string]map[*agent]mark
	work    sync.WaitGroup // the probing; grows under mu, and not once closed
	// life ends with the driver, whose Close joins the probing. It is held here since probing outlives each single call.
	life   context.Context
	closed context.CancelFunc
}

const (
	// Where there is another agent to go to, one that takes connections and answers nothing is found out by a probe, while
	// calls are in flight: the first comes early, since most calls are answered before that.
	probeFirst = time.Second
	probeEvery = 5 * time.Second
	probeLimit = 3 * time.Second
)

const errHangs = ours("the agent accepts calls and answers none")

func newAgents(all []*agent) *agents {
	p := &agents{all: all}
	p.life, p.closed = context.WithCancel(context.Background())
	for _, a := range all {
		a.calls = map[*call]struct{}{}
	}
	return p
}

// close ends what the agents hold. No call is in flight any more.
func (p *agents) close() {
	p.mu.Lock()
	p.closed()
	p.mu.Unlock()
	p.work.Wait()
	for _, a := range p.all {
		a.end()
	}
}

// inUse returns the agent in use.
func (p *agents) inUse() *agent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[p.now]
}

// pass makes the next agent the one in use, unless a is not it any more.
func (p *agents) pass(a *agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[p.now] == a {
		p.now = (p.now + 1) % len(p.all)
	}
}

// judge looks at how a call at a has ended.
func (p *agents) judge(a *agent, err error, elsewhere bool) {
	var e *callError
	if len(p.all) > 1 && errors.As(err, &e) && e.isAgents(elsewhere) {
		p.pass(a)
	}
}

// isAgents reports whether another agent may do better. What Consul says of another datacenter or of a peer it would say
// everywhere.
func (e *callError) isAgents(elsewhere bool) bool {
	switch e.code {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return e.kind == registry.ErrUnavailable && !(elsewhere && (e.late || lacksLeader(e)))
	case http.StatusInternalServerError:
		return !elsewhere && (strings.Contains(e.text, "No known Consul servers") || lacksLeader(e) ||
			strings.Contains(e.text, "rpc error getting client"))
	}
	return false
}

// enter notes that a call begins at a, whose context it returns, and a function that notes its end.
func (p *agents) enter(ctx context.Context, a *agent) (context.Context, func()) {
	if len(p.all) == 1 {
		return ctx, func() {}
	}
	ctx, cut := context.WithCancelCause(ctx)
	c := &call{cut}
	p.mu.Lock()
	defer p.mu.Unlock()
	a.calls[c] = struct{}{}
	if a.rest == nil && p.life.Err() == nil {
		probing, rest := context.WithCancel(p.life)
		a.rest = rest
		p.work.Go(func() { p.probe(probing, a) })
	}
	return ctx, func() {
		cut(nil)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(a.calls, c)
		if len(a.calls) == 0 && a.rest != nil {
			a.rest()
			a.rest = nil
		}
	}
}

// probe asks a for signs of life while calls are in flight there, and cuts them off when there is none.
func (p *agents) probe(ctx context.Context, a *agent) {
	next := time.NewTimer(probeFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if !a.answers(ctx) && ctx.Err() == nil {
			p.pass(a)
			p.mu.Lock()
			for c := range a.calls {
				c.cut(errHangs)
			}
			p.mu.Unlock()
		}
		next.Reset(probeEvery)
	}
}

// answers reports whether a answers at all. What it says does not matter, and no token is needed to ask; nor does a connection
// that breaks, as those in use would do so too.
func (a *agent) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	_, err := a.client.Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
	var op *net.OpError
	return err == nil || ctx.Err() == nil && !(errors.As(err, &op) && op.Op == "dial")
}

// at returns d with its calls going to a.
func (d *driver) at(a *agent) *driver {
	if d.agent == a {
		return d
	}
	c, s := *d, *d.settings
	c.client, c.agent, c.settings = a.client, a, &s
	s.location = a.location
	return &c
}

// anywhere makes one attempt at the agent in use. An agent that cannot be dialled has seen nothing of the attempt, which
// then goes on at the next one.
func (d *driver) anywhere(attempt func(*driver) error) error {
	var errs []error
	for {
		a := d.agents.inUse()
		err := attempt(d.at(a))
		var e *callError
		if !errors.As(err, &e) || !e.unreached || len(errs)+1 == len(d.agents.all) {
			return err
		}
		errs = append(errs, err)
	}
}

// name is that of the store in logs and in the names of cache files.
func (p *agents) name() string {
	var locations []string
	for _, a := range p.all {
		if !slices.Contains(locations, a.location) {
			locations = append(locations, a.location)
		}
	}
	return fmt.Sprintf("consul %s", strings.Join(locations, ","))
}

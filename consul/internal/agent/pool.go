package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is all agents of a driver. One of them is in use: it gets all calls but those for entries of other agents. If a call fails in a way
// that may not happen at another agent, the next one is in use. An earlier agent that answers again is not in use again before all others
// have failed: otherwise an agent that comes and goes would move every watch each time.
type Pool struct {
	// Names resolves the host names of the agents.
	Names *resolver

	name      string
	config    *Config
	following sync.Once                   // starts following the token file
	hint      sync.Once                   // reports that watches share connections
	outdated  atomic.Bool                 // the names are to be resolved before the next call
	report    atomic.Pointer[func(error)] // see Subscribe

	mu    sync.Mutex
	all   []*Agent
	known []*Agent       // all, and earlier ones
	now   int            // which of all is in use
	users int            // how many have yet to call Close
	work  sync.WaitGroup // grows under mu, and not once life has ended
	// life ends with Close, which joins work. It is kept here since the work outlives each call.
	life context.Context
	end  context.CancelFunc
}

// If there is another agent to switch to, a probe finds an agent that accepts connections and does not answer, while calls are in flight.
// The first probe comes early, since most calls are answered before that.
const (
	firstProbe    = time.Second
	probeInterval = 5 * time.Second
	probeTimeout  = 3 * time.Second
)

// ErrHangs ends the calls at an agent that hangs.
const ErrHangs = Fault("the agent accepts calls and answers none")

// NewPool returns the agents at those addresses. It sends nothing.
func NewPool(addresses []Address, config *Config, dialer *net.Dialer) (*Pool, error) {
	ofSeveral := *dialer
	ofSeveral.Timeout = DialTimeoutOfSeveral
	if len(addresses) > 1 {
		dialer = &ofSeveral
	}
	p := &Pool{config: config, users: 1}
	p.life, p.end = context.WithCancel(context.Background())
	var locations []string
	for _, address := range addresses {
		a, err := connect(address, config, dialer)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.add(a)
		p.all = append(p.all, a)
		if !slices.Contains(locations, a.Location) {
			locations = append(locations, a.Location)
		}
	}
	p.name = fmt.Sprintf("consul %s", strings.Join(locations, ","))
	p.Names = &resolver{
		addresses: addresses, Lookup: net.DefaultResolver.LookupNetIP, resolving: make(chan struct{}, 1),
		connect: func(a Address) (*Agent, error) { return connect(a, config, &ofSeveral) },
	}
	p.outdated.Store(p.Names.any())
	return p, nil
}

// add notes an agent. p.mu is locked, or p is new.
func (p *Pool) add(a *Agent) {
	a.calls, a.pool = map[*call]struct{}{}, p
	if !a.secure {
		a.Limiter.WatchQueues = p.hintAtTLS
	}
	p.known = append(p.known, a)
}

// Name names the agents in logs and in the names of cache files.
func (p *Pool) Name() string { return p.name }

// hintAtTLS reports once that there are more watches than connections.
func (p *Pool) hintAtTLS() {
	if report := p.report.Load(); report != nil {
		p.hint.Do(func() { (*report)(ErrWatchesQueue) })
	}
}

// ErrWatchesQueue is reported once if watches queue for a connection.
const ErrWatchesQueue = Fault("there are more watches than connections to the agent, so they take turns and see changes late; over TLS " +
	"they would share connections")

// Share notes one more user of the pool, which will call Close as well.
func (p *Pool) Share() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

// Subscribe makes the pool report that watches share connections, and the files of the token and of TLS why they cannot be used.
func (p *Pool) Subscribe(report func(error)) {
	p.report.Store(&report)
	p.config.Token.Subscribe(report)
	p.config.Certs.Subscribe(report)
}

// FollowToken makes the token change soon after its file, also if no call uses it. Further calls do nothing.
func (p *Pool) FollowToken() {
	p.following.Do(func() { p.Go(p.config.Token.follow) })
}

// Close frees the resources of the agents once all users have called it. No call of theirs is in flight then.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.users--; p.users > 0 {
		p.mu.Unlock()
		return
	}
	p.end()
	p.mu.Unlock()
	p.work.Wait()
	for _, a := range p.known {
		a.end()
	}
}

// Go calls f in a goroutine that Close joins, with a context that Close ends. It does nothing after Close.
func (p *Pool) Go(f func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() == nil {
		p.work.Go(func() { f(p.life) })
	}
}

// count returns how many agents there are.
func (p *Pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// InUse returns the agent in use.
func (p *Pool) InUse() *Agent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[p.now]
}

// Anywhere makes one attempt at the agent in use. If that cannot be dialled, it has seen nothing of the attempt, and Anywhere goes on with
// the next agent.
func (p *Pool) Anywhere(ctx context.Context, attempt func(*Agent) error) error {
	p.resolve(ctx)
	for failed := 1; ; failed++ {
		err := attempt(p.InUse())
		if !IsUnreached(err) || failed >= p.count() {
			return err
		}
	}
}

// switchFrom makes the next agent the one in use, unless another one is in use already.
func (p *Pool) switchFrom(a *Agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[p.now] == a {
		p.now = (p.now + 1) % len(p.all)
		p.outdated.Store(p.Names.any())
	}
}

// noteEnd switches to the next agent if a call at a has failed because of a.
func (p *Pool) noteEnd(a *Agent, err error, elsewhere bool) {
	var e *Error
	if errors.As(err, &e) && e.isAgents(elsewhere) {
		p.switchFrom(a)
	}
}

// begin notes that a call begins at a. It returns the context of the call, and a function that notes its end.
func (p *Pool) begin(ctx context.Context, a *Agent) (context.Context, func()) {
	if p.count() == 1 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	a.calls[c] = struct{}{}
	if a.stopProbing == nil && p.life.Err() == nil {
		probing, stop := context.WithCancel(p.life)
		a.stopProbing = stop
		p.work.Go(func() { p.probe(probing, a) })
	}
	return ctx, func() {
		cancel(nil)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(a.calls, c)
		if len(a.calls) == 0 && a.stopProbing != nil {
			a.stopProbing()
			a.stopProbing = nil
		}
	}
}

// probe asks whether a answers while calls are in flight there. If it does not, probe ends these calls.
func (p *Pool) probe(ctx context.Context, a *Agent) {
	next := time.NewTimer(firstProbe)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if !a.answers(ctx) && ctx.Err() == nil {
			p.switchFrom(a)
			p.mu.Lock()
			for c := range a.calls {
				c.cancel(ErrHangs)
			}
			p.mu.Unlock()
		}
		next.Reset(probeInterval)
	}
}

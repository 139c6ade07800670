package httpx

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/registry"
)

// firstSetTimeout is how long a request waits for the first set of its service, if its context allows.
const firstSetTimeout = 10 * time.Second

// service is one query that is watched, with the instances in use.
type service struct {
	core  *core
	query registry.Query // as Select returned it
	rules choose.Rules

	lastUsed     atomic.Int64 // on load.Clock
	hasInstances atomic.Bool
	budget       budget
	turn         atomic.Uint32 // counts the requests for the policies
	picker       atomic.Pointer[picker]
	known        chan struct{} // closed when there is a picker

	policy atomic.Pointer[requestPolicy] // nil if there is no service config in the registry

	cancel  context.CancelFunc
	watches sync.WaitGroup

	// mu is locked and unlocked by the methods Lock and Unlock. While it is locked, nothing of net/http is called, since net/http closes
	// connections with its own locks locked, and a connection locks mu then.
	mu        sync.Mutex
	state     choose.State
	all       map[nodeKey]*node
	nodes     []*node // the nodes in use, in the order of the set
	connected bool    // there has been a connection
	empty     error   // why there is no instance; used if nodes is empty
	changed   chan struct{}
	retired   []*node // left the nodes in use; Unlock retires them
	closed    bool
	shown     *clientstate.Client // on the status page
}

// nodeKey identifies a node. Two instances with the same address are one server.
type nodeKey struct{ address, serverName string }

func newService(c *core, q registry.Query, configKey string) *service {
	s := &service{
		core: c, rules: c.rules, known: make(chan struct{}), all: map[nodeKey]*node{}, changed: make(chan struct{}),
	}
	q.Tags, q.Metadata = slices.Clone(q.Tags), maps.Clone(q.Metadata) // they are the caller's
	s.query, s.rules.Query = q, q
	s.rules.WatchAll()
	s.budget.init(c.retryBudget)
	s.turn.Store(rand.Uint32()) // so that clients that start together do not call the same instances at the same time
	s.lastUsed.Store(int64(load.Clock()))
	s.state = choose.State{
		Rules: &s.rules, Selector: choose.Selector{Rules: &s.rules, Guarded: true}, Registry: choose.RegistryName(c.discovery),
		Lock: s, Use: s.endGrace, Began: func(choose.Condition) {},
	}
	s.shown = clientstate.Add(clientstate.State{Kind: clientstate.HTTP, Target: "http://" + q.Service, Service: q.Service,
		Registry: s.state.Registry, Policy: c.policy, Subset: s.rules.Subset, Discovery: c.discovery})
	ctx, cancel := context.WithCancel(context.Background()) // the watch outlives the request that needs it first
	s.cancel = cancel
	// What the registry remembers of a watch that has ended may be hours old, so only the watch says which instances there are.
	s.watches.Go(func() {
		choose.Follow(ctx, c.discovery, s.rules.Query, func(set []*registry.Instance, err error) time.Duration {
			s.receive(set, err)
			return 0
		})
	})
	if w, ok := c.discovery.(choose.ValueWatcher); ok && configKey != "" {
		s.watches.Go(func() { s.followPolicy(ctx, w, configKey) })
	}
	return s
}

// Lock locks s.
func (s *service) Lock() { s.mu.Lock() }

// Unlock unlocks s, and retires the nodes that have left.
func (s *service) Unlock() {
	retired := s.retired
	s.retired = nil
	s.mu.Unlock()
	for _, n := range retired {
		n.retire()
	}
}

// receive handles a set and an error of the watch.
func (s *service) receive(set []*registry.Instance, err error) {
	s.Lock()
	defer s.Unlock()
	if s.closed {
		return
	}
	defer s.showState()
	selection, ok := s.state.Receive(set, err)
	if ok {
		s.use(selection)
		return
	}
	if len(s.nodes) == 0 {
		s.empty = s.reason(err)
		s.rebuild()
	}
}

// reason returns the error of a request while there is no instance. watch is what the watch reports, or nil.
func (s *service) reason(watch error) error {
	text := s.state.EmptyReason(choose.Selection{})
	if watch == nil {
		return fmt.Errorf("%w: %s", registry.ErrUnavailable, text)
	}
	return &watchError{text: text, err: watch}
}

// watchError has the text of a reason, and is what the watch reports.
type watchError struct {
	text string
	err  error
}

// Error implements error.
func (e *watchError) Error() string { return e.text }

// Unwrap returns what the watch reports.
func (e *watchError) Unwrap() error { return e.err }

// use makes requests go to the instances of a selection. Locked.
func (s *service) use(selection choose.Selection) {
	if s.closed {
		return
	}
	s.state.LogPanic(selection)
	s.state.SetUsed(selection)
	s.hasInstances.Store(len(selection.Use) > 0)
	before := s.all
	s.all, s.nodes = make(map[nodeKey]*node, len(selection.Use)), make([]*node, 0, len(selection.Use))
	keyOf := func(in *registry.Instance) nodeKey { return nodeKey{s.rules.AddressOf(in), s.rules.ServerName(in)} }
	usable := make(map[nodeKey]*registry.Instance)
	for _, in := range selection.Use {
		if isUsable(in) {
			usable[keyOf(in)] = in
		}
	}
	for _, in := range selection.Use {
		key := keyOf(in)
		if s.all[key] != nil {
			continue
		}
		if better := usable[key]; better != nil && !isUsable(in) {
			in = better // the server has started again under another ID, and its old entry is still there
		}
		n := before[key]
		if n == nil {
			n = newNode(s, key)
		}
		n.update(in, selection.Restrictions[key.address])
		s.all[key] = n
		s.nodes = append(s.nodes, n)
	}
	for key, n := range before {
		if s.all[key] != n {
			s.retired = append(s.retired, n)
		}
	}
	if len(s.nodes) == 0 {
		s.empty = fmt.Errorf("%w: %s", registry.ErrUnavailable, s.state.EmptyReason(selection))
	}
	s.rebuild()
}

// isUsable reports whether in passes and has a weight.
func isUsable(in *registry.Instance) bool { return in.Status == registry.Passing && in.Weight > 0 }

// endGrace uses a selection at the end of a grace period. Locked.
func (s *service) endGrace(selection choose.Selection) {
	s.use(selection)
	s.showState()
}

// showState tells the status page how the service is. Locked.
func (s *service) showState() {
	reason := s.state.WatchError()
	switch {
	case len(s.nodes) == 0 && s.empty != nil:
		reason = s.empty.Error()
	case s.state.InGrace():
		reason = s.state.EmptyReason(choose.Selection{})
	}
	s.shown.Set(len(s.nodes), s.state.IsPanicking(), reason)
}

// rebuild makes the picker again. Locked.
func (s *service) rebuild() {
	if s.closed {
		return
	}
	allowed := s.nodes
	if len(s.state.Used().Restrictions) > 0 {
		allowed = s.restricted()
	} else {
		for _, n := range s.nodes {
			n.permit(mayDial)
		}
	}
	p := s.newPicker(allowed)
	p.restricted = len(s.state.Used().Restrictions) > 0
	switch {
	case len(s.nodes) == 0:
		p.err = failed(s.rules.Query.Service, s.empty)
	case len(allowed) == 0:
		p.err = failed(s.rules.Query.Service, fmt.Errorf("%w: %s", registry.ErrUnavailable, s.state.UnreachableReason()))
	}
	s.publish(p)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *service) publish(p *picker) {
	if s.picker.Swap(p) == nil {
		close(s.known)
	}
}

// restricted returns the nodes that may be used while some instances are restricted, and decides which nodes may be dialled. Locked.
func (s *service) restricted() []*node {
	o := choose.Overview{HadConnection: s.connected}
	for _, n := range s.nodes {
		o.Add(n.restriction, n.link)
	}
	allowed := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		switch isAllowed := o.Allows(n.restriction, n.link); {
		case n.restriction <= choose.Spare:
			n.permit(mayDial)
			if isAllowed {
				allowed = append(allowed, n)
			}
		case !isAllowed:
			n.permit(mustNotDial)
		case n.link.Ready > 0 && !n.link.Late:
			n.permit(mustWait)
			allowed = append(allowed, n)
		default: // a last resort
			n.link.Late = true
			n.permit(mayDial)
			allowed = append(allowed, n)
		}
	}
	return allowed
}

// current returns the picker. It waits for the first set.
func (s *service) current(ctx context.Context) (*picker, error) {
	if p := s.picker.Load(); p != nil {
		return p, nil
	}
	timer := time.NewTimer(firstSetTimeout)
	defer timer.Stop()
	select {
	case <-s.known:
		return s.picker.Load(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, failed(s.rules.Query.Service, fmt.Errorf("%w: %s: the registry did not answer within %v",
			registry.ErrUnavailable, s.state.ServiceInRegistry(), firstSetTimeout))
	}
}

// touch records that a request uses s.
func (s *service) touch(now time.Duration) {
	if last := s.lastUsed.Load(); now-time.Duration(last) > time.Second {
		s.lastUsed.Store(int64(now))
	}
}

// close ends the watch, and lets the nodes go when their requests have ended. Requests that come later get errGone.
func (s *service) close() {
	s.cancel()
	s.watches.Wait()
	s.Lock()
	s.closed = true
	s.state.Close()
	s.shown.Remove()
	all := slices.Clone(s.nodes)
	s.all, s.nodes = nil, nil
	s.publish(&picker{err: errGone})
	s.Unlock()
	for _, n := range all {
		n.retire()
	}
}

func (s *service) closeIdleConnections() {
	s.Lock()
	all := slices.Clone(s.nodes)
	s.Unlock()
	for _, n := range all {
		n.closeIdle()
	}
}

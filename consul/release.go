package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// leavePause is how long an entry that leaves is in maintenance before it is removed. A change in the catalog reaches a watch
	// within milliseconds, and the reads of a busy watch may be Options.Spacing apart.
	leavePause = 100 * time.Millisecond
	// lastCallTimeout limits the removal of an entry whose caller has stopped waiting.
	lastCallTimeout = time.Second
	// delayedWriteWait is how long a registration without an answer may take to show, once the agent answers. An agent needs milliseconds.
	delayedWriteWait = time.Second
	// deregisterTries is how often one removal is tried that each time reaches an agent without the entry.
	deregisterTries = 3
	// maxReleasing is how many leases remove their entries at once. If there are more than an agent can serve until
	// [registry.Registry.Close] gives up, the first ones are removed by then, instead of each being half way.
	maxReleasing = 64
)

// An address may belong to a balancer with several agents behind it. An entry that was registered through such an address can have
// copies on several of these agents, and a call that removes it reaches only one of them. The catalog lists all copies.
const (
	// copiesPause is the pause before the first repeated read of a catalog that still lists an entry. It doubles each time. The agent
	// tells the catalog within milliseconds what it has removed.
	copiesPause = 10 * time.Millisecond
	// copiesReads is how often one attempt reads the catalog, in about 2.5 s. If the last read lists the entry, that is an error.
	copiesReads = 9
	// copiesLag is how many of these reads the agent has to tell the catalog. After them the entry counts as a copy.
	copiesLag = 3
)

// Release implements [registry.Lease]. Before it removes the entry, the entry is in maintenance for leavePause: by that, readers tell
// an instance that leaves on purpose from a lost instance.
func (l *lease) Release(ctx context.Context) error {
	l.releasing.Store(true)
	if err := l.leave(ctx); err != nil {
		return err
	}
	l.removeOrphansBriefly(ctx)
	if err := l.removeCopies(ctx); err != nil {
		return err
	}
	l.once.Do(func() { close(l.released) })
	return nil
}

// leave removes the entry, if it is still of this lease, after it was in maintenance for a while. If ctx ends meanwhile, or the agent
// refuses the maintenance, it removes the entry at once.
func (l *lease) leave(ctx context.Context) error {
	slots := l.d.releases().slots
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.status == registry.Maintenance || l.inMaintenance {
		return l.remove(ctx)
	}
	if err := l.entryLock.lock(ctx); err != nil {
		return err
	}
	defer l.entryLock.unlock()
	entry, err := l.readToRemove(ctx)
	if err != nil || !l.mayRemove(entry.Meta) {
		return ignoreNotFound(err)
	}
	began := l.setMaintenance(ctx, maintenanceReason) == nil
	l.inMaintenance = began && sleep.For(ctx, leavePause)
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastCallTimeout)
		defer cancel()
	}
	if entry, _, err := l.read(ctx); began && err == nil && !l.mayRemove(entry.Meta) {
		return l.setMaintenance(ctx, "") // another process has registered the ID meanwhile, and did not ask for maintenance
	}
	return ignoreNotFound(l.deregister(ctx))
}

// remove removes the entry if it is still of this lease.
func (l *lease) remove(ctx context.Context) error {
	if err := l.entryLock.lock(ctx); err != nil {
		return err
	}
	defer l.entryLock.unlock()
	entry, err := l.readToRemove(ctx)
	if err == nil && l.mayRemove(entry.Meta) {
		err = l.deregister(ctx)
	}
	return ignoreNotFound(err)
}

// readToRemove reads the entry. After a registration without an answer, "there is none" may come too early: an agent that was paused, or is
// busy, carries the registration out a moment later. So readToRemove looks again for delayedWriteWait. The caller has locked entryLock.
func (l *lease) readToRemove(ctx context.Context) (*api.AgentService, error) {
	var last time.Time
	for {
		entry, _, err := l.read(ctx)
		switch {
		case !l.unanswered || !agent.IsNotFound(err):
			return entry, err
		case last.IsZero():
			last = time.Now().Add(delayedWriteWait)
		case time.Now().After(last):
			l.unanswered = false
			return nil, err
		}
		if !sleep.For(ctx, delayedWriteWait/20) {
			return nil, ctx.Err()
		}
	}
}

// mayRemove reports whether an entry with that meta is of this lease or of one of its predecessors. As soon as the agent has confirmed a
// registration of these, an entry of any earlier lease of this client counts as well: it is a write that was delayed. Before that, it is
// the entry of another registration of the ID in this process, which lives.
func (l *lease) mayRemove(meta map[string]string) bool {
	return l.owns(meta) && codec.ParseOwner(meta[codec.MetaOwner]).Lease >= l.oldest.Load()
}

// ignoreNotFound returns nil if err says that the agent does not have the entry.
func ignoreNotFound(err error) error {
	if agent.IsNotFound(err) {
		return nil
	}
	return err
}

// deregister removes the entry that the agent has just shown. If the agent does not know it, the call has reached another agent than the
// read did: a balancer that takes turns comes to the right one with the next attempts.
func (l *lease) deregister(ctx context.Context) (err error) {
	for range deregisterTries {
		err = l.call(ctx, "deregister "+l.serviceID, func(ctx context.Context) error {
			return l.d.agent.Client.Agent().ServiceDeregisterOpts(l.serviceID, l.d.agent.Options(ctx))
		})
		if !agent.IsNotFound(err) {
			break
		}
	}
	return err
}

// removeCopies blocks until the catalog lists no entry of this lease that could be called. If it lists one for longer than the agent
// needs to report the removal, removeCopies removes the copy through new connections, one of which may reach the agent that has it.
func (l *lease) removeCopies(ctx context.Context) error {
	pause := copiesPause
	for read := 1; ; read++ {
		nodes, err := l.copies(ctx)
		if err != nil || len(nodes) == 0 {
			return err
		}
		if read == copiesReads {
			return l.d.agent.Unavailable("deregister "+l.serviceID, fmt.Sprintf("the catalog still lists it on %s: it is the entry of another agent that answers at this address too, or this agent cannot reach its servers",
				strings.Join(nodes, " and ")))
		}
		if !sleep.For(ctx, pause) {
			return ctx.Err()
		}
		pause *= 2
		if read >= copiesLag {
			l.d.agent.Limiter.CloseIdle()
			// Another number of attempts each time: otherwise a balancer that takes turns could let the same agents see all of them.
			for range 1 + read%deregisterTries {
				if err := l.remove(ctx); err != nil {
					return err
				}
			}
		}
	}
}

// releases are the reads of the catalog that the leases of one service share while they are released. If each of some hundred that leave
// at once read by itself, that would take longer than Registry.Close allows.
type releases struct {
	slots chan struct{} // has a token for each lease that removes its entry

	mu        sync.Mutex
	byService map[string]*serviceReleases
}

// serviceReleases is what the catalog lists of one service.
type serviceReleases struct {
	leases  int                       // that are being released; guarded by releases.mu
	reading mutex                     // guards what is below
	at      time.Time                 // when the last read began
	listed  map[string][]catalogEntry // by the ID of the service
}

// catalogEntry is an entry that is neither critical nor in maintenance.
type catalogEntry struct {
	node string
	meta map[string]string
}

func newReleases() *releases { return &releases{slots: make(chan struct{}, maxReleasing)} }

// join returns what the releases of a service share, and a function that leaves it.
func (r *releases) join(service string) (*serviceReleases, func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.byService[service]
	if s == nil {
		s = &serviceReleases{reading: newMutex()}
		if r.byService == nil {
			r.byService = map[string]*serviceReleases{}
		}
		r.byService[service] = s
	}
	s.leases++
	return s, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.leases--; s.leases == 0 {
			delete(r.byService, service)
		}
	}
}

// alone reports whether only one lease of the service is being released.
func (r *releases) alone(s *serviceReleases) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.leases == 1
}

// copies returns the nodes on which the catalog lists an entry of this lease that is neither critical nor in maintenance. A token that may
// not read the catalog sees none.
func (l *lease) copies(ctx context.Context) (nodes []string, err error) {
	service, _, _ := strings.Cut(l.serviceID, ":") // the name of a service has no colon
	asked := time.Now()
	shared, leave := l.d.releases().join(service)
	defer leave()
	if err := shared.reading.lock(ctx); err != nil {
		return nil, err
	}
	defer shared.reading.unlock()
	if !shared.at.After(asked) {
		filter := "Service.ID == " + codec.Quote(l.serviceID)
		if !l.d.releases().alone(shared) {
			filter = ownedBy("Service.Meta", l.owner) + ` and not Checks.Status == "critical"`
		}
		began := time.Now()
		found, err := l.list(ctx, service, filter)
		if err != nil {
			return nil, err
		}
		shared.at, shared.listed = began, found
	}
	for _, e := range shared.listed[l.serviceID] {
		if l.mayRemove(e.meta) {
			nodes = append(nodes, e.node)
		}
	}
	return nodes, nil
}

// list returns those entries of the service that filter selects.
func (l *lease) list(ctx context.Context, service, filter string) (map[string][]catalogEntry, error) {
	found := map[string][]catalogEntry{}
	err := l.call(ctx, "read the catalog for "+l.serviceID, func(ctx context.Context) error {
		o := l.d.agent.Options(ctx)
		o.Filter = filter
		entries, _, err := l.d.agent.Client.Health().Service(service, "", false, o)
		for _, e := range entries {
			if e == nil || e.Service == nil || e.Node == nil {
				return errNoEntry
			}
			if s := e.Checks.AggregatedStatus(); s == api.HealthPassing || s == api.HealthWarning {
				found[e.Service.ID] = append(found[e.Service.ID], catalogEntry{fmt.Sprintf("node %s (%s)", e.Node.Node, e.Node.Address), e.Service.Meta})
			}
		}
		return err
	})
	if errors.Is(err, registry.ErrDenied) {
		return nil, nil
	}
	return found, err
}

// ownedBy returns a filter expression for entries whose meta, in that field, is of the client of o.
func ownedBy(field string, o codec.Owner) string {
	return fmt.Sprintf("%s[%s] matches %s", field, codec.Quote(codec.MetaOwner), codec.Quote("^"+o.Client+`\.`))
}

const errNoEntry = agent.Fault("an entry of the answer is null")

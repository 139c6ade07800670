package consul

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	// maintenanceReason marks maintenance that an instance announced itself. Any other reason is an operator's, whose
	// maintenance is nobody else's to end.
	maintenanceReason = "rollcall: announced by the instance itself"
	// maintenanceCheck begins the ID of the check that stands for maintenance of a service.
	maintenanceCheck = "_service_maintenance:"
)

// lease holds one entry of the agent. It knows its entry by the mark: whatever announces the same ID writes another.
type lease struct {
	d         *driver
	serviceID string
	mark      mark               // but for its turn
	content   *registry.Instance // what was to be written last; used by Announce and Update alone
	turn      atomic.Uint64      // of content

	// beating holds a token while the check is written: a heartbeat with the old status must not arrive after an Update
	// with the new one.
	beating chan struct{}
	status  registry.Status // what the check is to be; written by Announce and Update alone, with beating
	settled bool            // the checks are as status has it; used by Announce and Update alone

	writing chan struct{} // holds a token while the entry is registered or removed
	written written       // guarded by writing

	seen      atomic.Int64 // when Keep last saw its entry, as time.Time.UnixNano
	releasing atomic.Bool  // the entry may be gone because Release took it
	released  chan struct{}
	once      sync.Once // closes released
}

// write makes one attempt to bring in into the agent. It leaves alone what an operator has set.
func (l *lease) write(ctx context.Context, in *registry.Instance) error {
	next := l.newest()
	if in != l.content {
		next.turn++
	}
	service, err := l.d.registration(in, l.serviceID, next.String())
	if err != nil {
		return err
	}
	own := service.Tags
	l.keepTags(ctx, service)
	l.content = in
	l.turn.Store(next.turn)
	if l.settled && in.Status == l.status {
		return l.register(ctx, service, own)
	}
	l.settled = false
	checks, err := l.checks(ctx)
	if err != nil {
		return err
	}
	// A check that exists keeps its status when its service is registered again; one that does not is given it in the
	// registration. Consul has no write for both, so the status of an entry that exists comes first: whoever sees the new
	// content sees its status.
	steps := []func() error{
		func() error { return l.register(ctx, service, own) },
		func() error { return l.settle(ctx, in.Status, checks) },
	}
	if checks[checkID(l.serviceID)] != nil {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if err := l.dropChecks(ctx, service, checks); err != nil {
		return err
	}
	if err := l.dropSidecar(ctx, checks); err != nil {
		return err
	}
	l.settled = true
	return nil
}

// newest is the mark of what was to be written last.
func (l *lease) newest() mark {
	m := l.mark
	m.turn = l.turn.Load()
	return m
}

// register writes the entry. own are the tags that the instance has.
func (l *lease) register(ctx context.Context, service *api.AgentServiceRegistration, own []string) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	l.d.agents.left(l.serviceID, l.d.agent, l.mark)
	return l.put(ctx, service, own)
}

// settle brings the checks of the entry, which were as given before, to status s.
func (l *lease) settle(ctx context.Context, s registry.Status, checks map[string]*api.AgentCheck) error {
	if s == registry.Maintenance {
		// Before the check passes, so that no watcher sees an instance in between that seems to want traffic. Where an
		// operator's is there already, Consul keeps that.
		if err := l.maintain(ctx, true); err != nil {
			return err
		}
	}
	before := firstStatus(s)
	if check := checks[checkID(l.serviceID)]; check != nil {
		before = check.Status
	}
	if err := l.setStatus(ctx, s, before != checkStatus(s)); err != nil {
		return err
	}
	if s != registry.Maintenance {
		if m := checks[maintenanceCheck+l.serviceID]; m != nil && m.Notes == maintenanceReason {
			return l.maintain(ctx, false)
		}
	}
	return nil
}

// call makes one call for the entry, when there is a place for it.
func (l *lease) call(ctx context.Context, what string, f func(context.Context) error) error {
	at, err := l.d.agent.crowd.enter(ctx, writing)
	if err != nil {
		return err
	}
	return l.d.callAt(ctx, at, what, l.d.settings.Timeout, f)
}

// checks returns the checks of the entry, and of its sidecar, by their IDs.
func (l *lease) checks(ctx context.Context) (checks map[string]*api.AgentCheck, err error) {
	err = l.call(ctx, "read checks of "+l.serviceID, func(ctx context.Context) (err error) {
		checks, err = l.d.client.Agent().ChecksWithFilterOpts(fmt.Sprintf("ServiceID == %q or ServiceID == %q", l.serviceID, l.serviceID+sidecarSuffix), l.d.agentOptions(ctx))
		return err
	})
	return checks, err
}

func (l *lease) maintain(ctx context.Context, on bool) error {
	return l.call(ctx, "set maintenance of "+l.serviceID, func(ctx context.Context) error {
		if on {
			return l.d.client.Agent().EnableServiceMaintenanceOpts(l.serviceID, maintenanceReason, l.d.agentOptions(ctx))
		}
		return l.d.client.Agent().DisableServiceMaintenanceOpts(l.serviceID, l.d.agentOptions(ctx))
	})
}

// take gets the right to write the check.
func (l *lease) take(ctx context.Context) error {
	select {
	case l.beating <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lease) give() { <-l.beating }

// setStatus makes s the status of all heartbeats, and gives one at once where now is true.
func (l *lease) setStatus(ctx context.Context, s registry.Status, now bool) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	if now {
		if err := l.heartbeat(ctx, s, l.d.settings.Timeout); err != nil {
			return err
		}
	}
	l.status = s
	return nil
}

// heartbeat writes the check. The caller has the right to.
func (l *lease) heartbeat(ctx context.Context, s registry.Status, limit time.Duration) error {
	what := "heartbeat of " + l.serviceID
	soon, cancel := context.WithTimeout(ctx, limit) // an agent that hangs is not to be found out by the first few alone
	defer cancel()
	at, err := l.d.agent.crowd.enter(soon, beating)
	if err != nil {
		return l.d.classify(ctx, what, limit, err)
	}
	return l.d.callAt(ctx, at, what, limit, func(ctx context.Context) error {
		// No output: a check whose output changes is written to the catalog anew, and wakes every watcher.
		return l.d.client.Agent().UpdateTTLOpts(checkID(l.serviceID), "", checkStatus(s), l.d.agentOptions(ctx))
	})
}

// Update implements [registry.Lease]. Consul has no condition that a registration could be made under, so an announcement
// of the same ID between the read and the write is overwritten; its owner then finds out.
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	// What Keep has just seen need not be read again: an instance that is updated all the time costs half the calls.
	if time.Since(time.Unix(0, l.seen.Load())) > l.d.settings.TTL/3 {
		entry, _, err := l.read(ctx)
		if err != nil {
			return err
		}
		if err := l.mine(entry); err != nil {
			return err
		}
	}
	return l.write(ctx, in)
}

// Release implements [registry.Lease].
func (l *lease) Release(ctx context.Context) error {
	l.releasing.Store(true)
	if err := l.remove(ctx); err != nil {
		return err
	}
	l.d.tags.forget(l.serviceID)
	l.d.marks.settled(l.serviceID)
	l.once.Do(func() { close(l.released) })
	l.clearBriefly(ctx)
	return nil
}

// remove takes the entry away where it is still this lease's.
func (l *lease) remove(ctx context.Context) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	entry, _, err := l.read(ctx)
	if err == nil && l.mayRemove(entry) {
		err = l.call(ctx, "deregister "+l.serviceID, func(ctx context.Context) error {
			return l.d.client.Agent().ServiceDeregisterOpts(l.serviceID, l.d.agentOptions(ctx))
		})
	}
	if err != nil && !isGone(err) {
		return err
	}
	l.d.agents.forget(l.serviceID, l.d.agent)
	return nil
}

// mayRemove reports whether entry is of this lease, or of an attempt to announce it again that seemed to fail.
func (l *lease) mayRemove(entry *api.AgentService) bool {
	return l.mine(entry) == nil || l.d.marks.hasTried(l.serviceID, parseMark(entry.Meta[metaOwner]))
}

// CheckReplaced implements [registry.ReplacedChecker]. Where the program has gone on to another agent, nobody there has
// replaced what was at the first one.
func (l *lease) CheckReplaced(ctx context.Context) error {
	if l.d.agents.inUse() != l.d.agent {
		return nil
	}
	entry, _, err := l.read(ctx)
	switch {
	case isGone(err):
		return nil
	case err != nil:
		return err
	case l.mayRemove(entry):
		return nil
	}
	return l.mine(entry)
}

// waitLimit bounds a call that the server lets wait for up to wait: it adds up to a sixteenth to spread its clients, and
// needs time to find out that it has no leader.
func waitLimit(wait time.Duration) time.Duration { return wait + wait/16 + 8*time.Second }

// checkID is explicit since the one that Consul would choose depends on the number of checks.
func checkID(serviceID string) string { return "rollcall:" + serviceID }

// checkStatus is what the check says for s. That of an instance in maintenance passes: maintenance is a check of its own.
func checkStatus(s registry.Status) string {
	switch s {
	case registry.Warning:
		return api.HealthWarning
	case registry.Critical:
		return api.HealthCritical
	}
	return api.HealthPassing
}

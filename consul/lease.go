package consul

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// maintenanceReason is the reason of maintenance that the instance itself asked for. Maintenance with any other reason is an
	// operator's, and ends by hand only.
	maintenanceReason = "rollcall: set by the instance itself"
	// maintenanceCheck begins the ID of the check by which Consul shows the maintenance of a service.
	maintenanceCheck = "_service_maintenance:"
)

// lease is the registration of one instance: an entry of one agent. It recognizes its entry by the owner tag, since every
// registration writes another one.
//
// This file writes the entry and its checks. entrywatch.go notices that the agent has lost the entry, catalogwatch.go that the catalog
// has, and release.go removes it.
type lease struct {
	d         *driver // whose calls go to the agent that has the entry
	serviceID string
	owner     codec.Owner        // but for Seq
	seq       atomic.Uint64      // the sequence number of content
	content   *registry.Instance // what was to be written last; used by Register and Update only

	// checkLock is locked while the TTL check is written: a heartbeat with the old status must not arrive after an Update with the
	// new one.
	checkLock mutex
	status    registry.Status // what the TTL check is to say; written with checkLock, by Register and Update only
	statusSet bool            // all checks have that status; used by Register and Update only
	missed    bool            // the last heartbeat failed in a way that the next one makes up for; used by Renew only

	// entryLock is locked while the entry is registered or removed.
	entryLock   mutex
	stored      stored // guarded by entryLock
	mayBeStored bool   // a registration was sent, even if it failed; guarded by entryLock
	unanswered  bool   // the last registration had no answer, so the agent may still carry it out; guarded by entryLock

	tags    tagMemory
	orphans orphans
	oldest  atomic.Uint64 // the first lease of this client whose entry Release removes: see mayRemove

	entrySeen     atomic.Int64 // when the entry was last seen in the agent, as time.Time.UnixNano
	lostInCatalog atomic.Bool  // the entry was registered again since the catalog lost it, and the catalog has not shown it yet

	releasing     atomic.Bool // Release was called, so the entry may be gone because of that
	inMaintenance bool        // the entry was in maintenance for long enough before it is removed; used by Release only
	released      chan struct{}
	once          sync.Once // closes released
}

var _ registry.Lease = (*lease)(nil)

// stored is what a lease registered last. The agent keeps the token of a registration, and writes the entry and its checks to the
// catalog with it: once that token has expired, the catalog keeps what it had before.
type stored struct {
	service *api.AgentServiceRegistration // nil before the first registration
	own     []string                      // the tags of the instance
	token   string
}

// newLease returns a lease for in, which takes over from prev what that has left in the store. prev may be nil.
func (d *driver) newLease(in *registry.Instance, prev *lease) *lease {
	l := &lease{
		d: d, serviceID: codec.ServiceID(in.Service, in.ID), owner: d.owners.next(),
		checkLock: newMutex(), entryLock: newMutex(), released: make(chan struct{}),
	}
	if prev == nil {
		l.oldest.Store(l.owner.Lease)
		return l
	}
	l.oldest.Store(prev.oldest.Load())
	l.tags.set(prev.tags.last())
	l.orphans.inherit(prev, d.agent)
	if prev.d.agent == d.agent {
		l.lostInCatalog.Store(prev.lostInCatalog.Load())
	}
	return l
}

// write makes one attempt to bring in into the agent. It keeps what an operator has set.
func (l *lease) write(ctx context.Context, in *registry.Instance) error {
	next := l.newest()
	if in != l.content {
		next.Seq++
	}
	service, err := l.d.registration(in, l.serviceID, next.String())
	if err != nil {
		return err
	}
	own := service.Tags
	l.keepTags(ctx, service)
	l.content = in
	l.seq.Store(next.Seq)
	if l.statusSet && in.Status == l.status {
		return l.register(ctx, service, own)
	}
	l.statusSet = false
	checks, err := l.checks(ctx)
	if err != nil {
		return err
	}
	if l.lostInCatalog.Load() {
		if err := l.makeDifferent(ctx, service, checks); err != nil {
			return err
		}
	}
	// Registering a service again does not change the status of a check that exists; it sets the status of a new check only. Consul has
	// no write for both, so for an entry that exists the status is written first: a reader that sees the new content sees its status
	// as well.
	steps := []func() error{
		func() error { return l.register(ctx, service, own) },
		func() error { return l.setChecks(ctx, in.Status, checks) },
	}
	if checks[checkID(l.serviceID)] != nil {
		slices.Reverse(steps)
	}
	steps = append(steps,
		func() error { return l.dropChecks(ctx, service, checks) },
		func() error { return l.dropSidecar(ctx, checks) },
		func() error { return l.firstHeartbeat(ctx, in.Status) },
	)
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	l.statusSet = true
	return nil
}

// newest returns the owner tag of what was to be written last.
func (l *lease) newest() codec.Owner {
	o := l.owner
	o.Seq = l.seq.Load()
	return o
}

// register registers service. own are the tags of the instance.
func (l *lease) register(ctx context.Context, service *api.AgentServiceRegistration, own []string) error {
	if err := l.entryLock.lock(ctx); err != nil {
		return err
	}
	defer l.entryLock.unlock()
	return l.put(ctx, service, own)
}

// put registers service with the current token. The caller has locked entryLock.
func (l *lease) put(ctx context.Context, service *api.AgentServiceRegistration, own []string) error {
	s := stored{service, own, l.d.settings.token.Current()}
	before := l.mayBeStored
	l.mayBeStored = true
	// Without replace-existing-checks, which would end the maintenance of an operator.
	err := l.call(ctx, "register "+l.serviceID, func(ctx context.Context) error {
		return l.d.agent.Client.Agent().ServiceRegisterOpts(service, api.ServiceRegisterOpts{Token: s.token}.WithContext(ctx))
	})
	if err == nil {
		l.stored = s
		l.oldest.Store(0)
		l.rememberTags(s)
	}
	if agent.IsUnreached(err) {
		l.mayBeStored = before
	} else {
		l.unanswered = err != nil && !agent.IsAnswered(err)
	}
	return err
}

// putAgain registers what was registered last. The caller has locked entryLock. The end of ctx does not cut off a write that has begun: the
// agent might read it all the same, after the entry was released. Release waits for it.
func (l *lease) putAgain(ctx context.Context) error {
	service := *l.stored.service
	if l.d.settings.EnableTagOverride {
		l.readTags(ctx, &service, service.Meta[codec.MetaOwner])
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.d.settings.Timeout)
	defer cancel()
	return l.put(whole, &service, l.stored.own)
}

// setChecks brings the checks of the entry to status s. checks are the checks that the entry had before.
func (l *lease) setChecks(ctx context.Context, s registry.Status, checks map[string]*api.AgentCheck) error {
	if s == registry.Maintenance {
		// Before the check passes, so that no watch sees an instance in between that seems to want traffic. If the maintenance of an
		// operator has begun already, Consul keeps that.
		if err := l.setMaintenance(ctx, maintenanceReason); err != nil {
			return err
		}
	}
	before := codec.InitialStatus(s)
	if check := checks[checkID(l.serviceID)]; check != nil {
		before = check.Status
	}
	if err := l.setStatus(ctx, s, before != codec.CheckStatus(s)); err != nil {
		return err
	}
	if s != registry.Maintenance {
		if m := checks[maintenanceCheck+l.serviceID]; m != nil && m.Notes == maintenanceReason {
			return l.setMaintenance(ctx, "")
		}
	}
	return nil
}

// setMaintenance begins maintenance of the entry for that reason, or ends it if there is no reason.
func (l *lease) setMaintenance(ctx context.Context, reason string) error {
	return l.call(ctx, "set maintenance of "+l.serviceID, func(ctx context.Context) error {
		if reason != "" {
			return l.d.agent.Client.Agent().EnableServiceMaintenanceOpts(l.serviceID, reason, l.d.agent.Options(ctx))
		}
		return l.d.agent.Client.Agent().DisableServiceMaintenanceOpts(l.serviceID, l.d.agent.Options(ctx))
	})
}

// checks returns the checks of the entry, and of its sidecar, by their IDs.
func (l *lease) checks(ctx context.Context) (checks map[string]*api.AgentCheck, err error) {
	filter := fmt.Sprintf("ServiceID == %q or ServiceID == %q", l.serviceID, l.serviceID+codec.SidecarSuffix)
	err = l.call(ctx, "read checks of "+l.serviceID, func(ctx context.Context) (err error) {
		checks, err = l.d.agent.Client.Agent().ChecksWithFilterOpts(filter, l.d.agent.Options(ctx))
		return err
	})
	return checks, err
}

// dropChecks removes from checks what an earlier configuration left. The registration does not do it, unless it is told to end the
// maintenance of an operator as well, and no one else would.
func (l *lease) dropChecks(ctx context.Context, service *api.AgentServiceRegistration, checks map[string]*api.AgentCheck) error {
	for id := range checks {
		wanted := slices.ContainsFunc(service.Checks, func(c *api.AgentServiceCheck) bool { return c.CheckID == id })
		if wanted || !isAgentCheck(id, l.serviceID) {
			continue
		}
		err := l.call(ctx, "deregister check "+id, func(ctx context.Context) error {
			return l.d.agent.Client.Agent().CheckDeregisterOpts(id, l.d.agent.Options(ctx))
		})
		if err != nil && !agent.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// call makes one call for the entry, as soon as there is a slot for it.
func (l *lease) call(ctx context.Context, what string, f func(context.Context) error) error {
	return l.d.callAs(ctx, agent.Write, what, f)
}

// Update implements [registry.Lease]. Consul has no conditional registration, so a registration of the same ID between the read and the
// write is overwritten; its owner then finds out.
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	// An entry that Wait has just seen need not be read again: that halves the calls of an instance that is updated all the time.
	if time.Since(time.Unix(0, l.entrySeen.Load())) > l.d.settings.TTL/3 {
		entry, _, err := l.read(ctx)
		if err != nil {
			return err
		}
		if err := l.checkOwner(entry); err != nil {
			return err
		}
	}
	return l.write(ctx, in)
}

// CheckReplaced implements [registry.Lease]. If the driver has switched to another agent, the entry at the first one does not matter:
// nothing has replaced it at the new one.
func (l *lease) CheckReplaced(ctx context.Context) error {
	if l.d.agents.InUse() != l.d.agent {
		return nil
	}
	entry, _, err := l.read(ctx)
	switch {
	case agent.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return l.checkOwner(entry)
}

// checkOwner returns an error that wraps registry.ErrReplaced if entry is of another registration.
func (l *lease) checkOwner(entry *api.AgentService) error {
	if l.owns(entry.Meta) {
		return nil
	}
	return fmt.Errorf("%w: consul at %s has it under %s", registry.ErrReplaced, l.d.agent.Location, l.serviceID)
}

// owns reports whether an entry with that meta is of this lease or of one of its predecessors.
func (l *lease) owns(meta map[string]string) bool {
	return l.owner.Covers(codec.ParseOwner(meta[codec.MetaOwner]))
}

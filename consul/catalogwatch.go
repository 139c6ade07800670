package consul

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// The catalog can lose an entry that the agent still has, or go back to an earlier content of it: a restored snapshot knows nothing of
// what was written after it. The agent compares the two once a minute or two, and before that sends only what is registered with a
// change. So the leases at an agent read the catalog, all with one read: when it changes (see nodeWatch), and twice in each Config.Wait.
const (
	// catalogFirst is the age of a lease when it first reads the catalog: most registrations get there within milliseconds.
	catalogFirst = 2 * time.Second
	// catalogAgain is the time between two reads that both have to miss an entry before it counts as lost.
	catalogAgain = time.Second
)

// catalogState is what the leases at one agent know of the catalog.
type catalogState struct {
	reading mutex                  // locked while one of the leases reads; guards the fields below it
	at      time.Time              // when the last read began
	owners  map[string]codec.Owner // of the entries on the node of the agent, by the ID of the service
	node    string                 // of the agent; "" while it is not known

	watch nodeWatch
}

func newCatalogState() *catalogState {
	return &catalogState{reading: newMutex(), watch: nodeWatch{changed: make(chan struct{})}}
}

// watchCatalog blocks until the catalog has lost the entry, and returns an error that says so, or the error of ctx. A read that fails says
// nothing about the entry.
func (l *lease) watchCatalog(ctx context.Context) error {
	watch := &l.d.catalog().watch
	watch.join()
	defer watch.leave()
	every := max(l.d.settings.Wait/2, time.Second)
	wait := min(catalogFirst, every)
	notBefore := time.Now().Add(wait / 2)
	missed, before := false, codec.Owner{}
	var changed <-chan struct{} // nil while only wait counts
	for {
		woken := waitFor(ctx, wait, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var last time.Time
		if changed, last = watch.next(); woken {
			notBefore = last
		}
		found, newest, err := l.inCatalog(ctx, notBefore)
		switch {
		case err != nil:
			missed, wait = false, every
		case newest:
			l.lostInCatalog.Store(false)
			missed, wait = false, every
		case l.lostInCatalog.Load():
			wait = every // to register it again has not helped, and would not help now
		case missed && found == before: // an entry that is updated all the time changes in between
			l.lostInCatalog.Store(true)
			return l.d.agent.Unavailable("look for "+l.serviceID, "the catalog has lost what the agent still has")
		default:
			missed, before, wait, changed = true, found, catalogAgain, nil
		}
		notBefore = time.Now().Add(wait / 2)
	}
}

// waitFor blocks until wait has passed, or changed is closed, or ctx ends. It reports whether changed was closed.
func waitFor(ctx context.Context, wait time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-changed:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// inCatalog returns the owner tag that the entry has in the catalog, and whether that is of the newest write, as of notBefore or later.
func (l *lease) inCatalog(ctx context.Context, notBefore time.Time) (found codec.Owner, newest bool, err error) {
	written, err := l.lastStored(ctx)
	if err != nil {
		return codec.Owner{}, false, err
	}
	c := l.d.catalog()
	if err := c.reading.lock(ctx); err != nil {
		return codec.Owner{}, false, err
	}
	defer c.reading.unlock()
	if c.at.Before(notBefore) {
		began := time.Now()
		owners, err := l.readOwners(ctx)
		if err != nil {
			return codec.Owner{}, false, err
		}
		c.at, c.owners = began, owners
		l.d.watchNode(c.node)
	}
	found, ok := c.owners[l.serviceID]
	newest = ok && !written.IsNewerThan(found)
	if !newest {
		c.node = "" // the agent may have another name by now: the next read asks for it
	}
	return found, newest, nil
}

// lastStored returns the owner tag of what was registered last.
func (l *lease) lastStored(ctx context.Context) (codec.Owner, error) {
	if err := l.entryLock.lock(ctx); err != nil {
		return codec.Owner{}, err
	}
	defer l.entryLock.unlock()
	if l.stored.service == nil {
		return codec.Owner{}, nil
	}
	return codec.ParseOwner(l.stored.service.Meta[codec.MetaOwner]), nil
}

// readOwners returns the owner tags of all entries of this client that the catalog has on the node of the agent. The caller has locked
// catalogState.reading.
func (l *lease) readOwners(ctx context.Context) (map[string]codec.Owner, error) {
	c := l.d.catalog()
	if c.node == "" {
		checks, err := l.checks(ctx)
		if err != nil {
			return nil, err
		}
		for _, check := range checks {
			if check != nil {
				c.node = check.Node
			}
		}
	}
	what := "read the entries of node " + strconv.Quote(c.node)
	if c.node == "" {
		return nil, l.d.agent.Unavailable(what, "the agent does not say which node it is")
	}
	var list *api.CatalogNodeServiceList
	err := l.call(ctx, what, func(ctx context.Context) (err error) {
		o := l.d.agent.Options(ctx)
		o.Filter = ownedBy("Meta", l.owner)
		list, _, err = l.d.agent.Client.Catalog().NodeServiceList(c.node, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	if list == nil || list.Node == nil {
		c.node = ""
		return nil, l.d.agent.Unavailable(what, "the token may not read the node")
	}
	owners := map[string]codec.Owner{}
	for _, s := range list.Services {
		if s != nil {
			owners[s.ID] = codec.ParseOwner(s.Meta[codec.MetaOwner])
		}
	}
	return owners, nil
}

// makeDifferent changes service, and what checks say of a maintenance, so that the agent sends all of it to the catalog, which has lost
// it. The agent does not send again what it has sent.
func (l *lease) makeDifferent(ctx context.Context, service *api.AgentServiceRegistration, checks map[string]*api.AgentCheck) error {
	for _, c := range append(api.AgentServiceChecks{service.Check}, service.Checks...) {
		c.Notes += fmt.Sprintf(" (sent again: %d)", l.owner.Lease)
	}
	m := checks[maintenanceCheck+l.serviceID]
	if m == nil {
		return nil
	}
	if err := l.setMaintenance(ctx, ""); err != nil {
		return err
	}
	return l.setMaintenance(ctx, m.Notes)
}

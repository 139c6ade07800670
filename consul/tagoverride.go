package consul

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/consul/api"
)

// tags remembers of each entry that was written, where [Config].EnableTagOverride is set, what its tags were, over all leases of it.
type tags struct {
	mu      sync.Mutex
	entries map[string]tagsOf // by the ID of the service
}

type tagsOf struct {
	own     []string // that the announcement asked for
	written []string // those, or the ones that an operator had put in their place
	owner   string   // the mark of that write
}

func (t *tags) wrote(serviceID string, of tagsOf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.entries = map[string]tagsOf{}
	}
	t.entries[serviceID] = of
}

func (t *tags) last(serviceID string) (tagsOf, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of, ok := t.entries[serviceID]
	return of, ok
}

func (t *tags) forget(serviceID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, serviceID)
}

// rememberTags notes what w has written.
func (l *lease) rememberTags(w written) {
	if l.d.settings.EnableTagOverride {
		l.d.tags.wrote(l.serviceID, tagsOf{w.own, w.service.Tags, w.service.Meta[metaOwner]})
	}
}

// keepTags puts the tags into service that an operator has given the entry in the catalog, where [Config].EnableTagOverride lets
// him, and the announcement asks for those that it had asked for before. Consul's agent learns of them once a minute or so:
// until then a registration with the old ones would write those.
func (l *lease) keepTags(ctx context.Context, service *api.AgentServiceRegistration) {
	if last, ok := l.d.tags.last(l.serviceID); ok && slices.Equal(last.own, service.Tags) {
		service.Tags = last.written
		l.takeTags(ctx, service, last.owner)
	}
}

// takeTags gives service the tags of its entry in the catalog. Where that cannot be read, or is of another write than that of
// owner, as it is while the catalog lags behind the agent, the tags stay.
func (l *lease) takeTags(ctx context.Context, service *api.AgentServiceRegistration, owner string) {
	_ = l.call(ctx, "read tags of "+l.serviceID, func(ctx context.Context) error {
		o := l.d.agentOptions(ctx)
		o.Filter = fmt.Sprintf("ServiceID == %q", l.serviceID)
		entries, _, err := l.d.client.Catalog().Service(service.Name, "", o)
		for _, e := range entries {
			if e.ServiceMeta[metaOwner] == owner {
				service.Tags = e.ServiceTags
			}
		}
		return err
	})
}

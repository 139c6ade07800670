package consul

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// tagMemory is what a lease and its predecessors know of the tags of the entry, if [Config].EnableTagOverride is set. The zero value is
// the memory of an entry that was not written yet.
type tagMemory struct {
	mu sync.Mutex
	tagWrite
}

type tagWrite struct {
	own     []string // that the instance has
	written []string // these, or the tags by which an operator had replaced them
	owner   string   // the owner tag of that write
}

func (m *tagMemory) last() tagWrite {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tagWrite
}

func (m *tagMemory) set(w tagWrite) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tagWrite = w
}

// rememberTags notes what s has written.
func (l *lease) rememberTags(s stored) {
	if l.d.settings.EnableTagOverride {
		l.tags.set(tagWrite{s.own, s.service.Tags, s.service.Meta[codec.MetaOwner]})
	}
}

// keepTags puts into service the tags that an operator has given the entry in the catalog, if [Config].EnableTagOverride allows it, and the
// tags of the instance are the same as before. Consul's agent learns of the operator's tags about once a minute: until then a
// registration with the old ones would overwrite them.
func (l *lease) keepTags(ctx context.Context, service *api.AgentServiceRegistration) {
	if last := l.tags.last(); last.owner != "" && slices.Equal(last.own, service.Tags) {
		service.Tags = last.written
		l.readTags(ctx, service, last.owner)
	}
}

// readTags gives service the tags of its entry in the catalog. If that cannot be read, or is of another write than owner, as it
// is while the catalog lags behind the agent, the tags stay as they are.
func (l *lease) readTags(ctx context.Context, service *api.AgentServiceRegistration, owner string) {
	_ = l.call(ctx, "read tags of "+l.serviceID, func(ctx context.Context) error {
		o := l.d.agent.Options(ctx)
		o.Filter = fmt.Sprintf("ServiceID == %q", l.serviceID)
		entries, _, err := l.d.agent.Client.Catalog().Service(service.Name, "", o)
		for _, e := range entries {
			if e != nil && e.ServiceMeta[codec.MetaOwner] == owner {
				service.Tags = e.ServiceTags
			}
		}
		return err
	})
}

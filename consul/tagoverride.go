package consul

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// keepTags puts the tags into service that an operator has given the entry in the catalog, where [Config].EnableTagOverride lets
// him, and in has the tags that the application had announced before. Consul's agent learns of them once a minute or so: until
// then a registration with the old ones would write those.
func (l *lease) keepTags(ctx context.Context, in *registry.Instance, service *api.AgentServiceRegistration) {
	if !l.d.settings.EnableTagOverride || l.registered == nil || !slices.Equal(l.registered.Tags, in.Tags) {
		return
	}
	l.takeTags(ctx, service)
}

// takeTags gives service the tags of its entry in the catalog. Where that cannot be read, it is left to the agent.
func (l *lease) takeTags(ctx context.Context, service *api.AgentServiceRegistration) {
	_ = l.call(ctx, "read tags of "+l.serviceID, func(ctx context.Context) error {
		o := l.d.agentOptions(ctx)
		o.Filter = fmt.Sprintf("ServiceID == %q", l.serviceID)
		entries, _, err := l.d.client.Catalog().Service(service.Name, "", o)
		for _, e := range entries {
			if l.mark.isOf(parseMark(e.ServiceMeta[metaOwner])) {
				service.Tags = e.ServiceTags
			}
		}
		return err
	})
}

package consul

import (
	"context"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// connect returns how a registered instance takes part in Consul's service mesh, or nil if it does not.
func (s *settings) connect() *api.AgentServiceConnect {
	switch {
	case s.ConnectNative:
		return &api.AgentServiceConnect{Native: true}
	case s.Sidecar:
		// Consul gives the sidecar the ID, name, tags and meta of the instance, a port if none is set, and checks of its own.
		return &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Port: s.SidecarPort}}
	}
	return nil
}

// dropSidecar removes the sidecar that an earlier configuration left, if it has one of checks: no process is behind it, and Consul
// removes it with its service only. A sidecar that an operator has registered stays: it has no meta of this package, which Consul copies
// from the instance.
func (l *lease) dropSidecar(ctx context.Context, checks map[string]*api.AgentCheck) error {
	if l.d.settings.Sidecar {
		return nil
	}
	id := l.serviceID + codec.SidecarSuffix
	for _, c := range checks {
		if c == nil || c.ServiceID != id {
			continue
		}
		err := l.call(ctx, "deregister "+id, func(ctx context.Context) error {
			sidecar, _, err := l.d.agent.Client.Agent().Service(id, l.d.agent.Options(ctx))
			if err != nil || sidecar == nil || sidecar.Kind != api.ServiceKindConnectProxy || sidecar.Meta[codec.MetaOwner] == "" {
				return err
			}
			return l.d.agent.Client.Agent().ServiceDeregisterOpts(id, l.d.agent.Options(ctx))
		})
		if agent.IsNotFound(err) {
			return nil
		}
		return err
	}
	return nil
}

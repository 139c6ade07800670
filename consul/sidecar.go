package consul

import (
	"context"

	"github.com/hashicorp/consul/api"
)

// sidecarSuffix is what Consul adds to the ID of a service for that of its sidecar.
const sidecarSuffix = "-sidecar-proxy"

// connect is how an announced instance takes part in Consul's service mesh; nil where it does not.
func (s *settings) connect() *api.AgentServiceConnect {
	switch {
	case s.ConnectNative:
		return &api.AgentServiceConnect{Native: true}
	case s.Sidecar:
		// Consul gives it the ID, name, tags and meta of the instance, a port where there is none, and its own checks.
		return &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Port: s.SidecarPort}}
	}
	return nil
}

// dropSidecar removes the sidecar that an earlier configuration has left, of which checks has a check: no process is behind it
// any more, and Consul removes it with its service alone. One that an operator has registered stays: it has no meta of ours, which
// Consul copies from the instance.
func (l *lease) dropSidecar(ctx context.Context, checks map[string]*api.AgentCheck) error {
	if l.d.settings.Sidecar {
		return nil
	}
	id := l.serviceID + sidecarSuffix
	for _, c := range checks {
		if c.ServiceID != id {
			continue
		}
		err := l.call(ctx, "deregister "+id, func(ctx context.Context) error {
			sidecar, _, err := l.d.client.Agent().Service(id, l.d.agentOptions(ctx))
			if err != nil || sidecar == nil || sidecar.Kind != api.ServiceKindConnectProxy || sidecar.Meta[metaOwner] == "" {
				return err
			}
			return l.d.client.Agent().ServiceDeregisterOpts(id, l.d.agentOptions(ctx))
		})
		if isGone(err) {
			return nil
		}
		return err
	}
	return nil
}

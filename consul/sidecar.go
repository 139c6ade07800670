package consul

import "github.com/hashicorp/consul/api"

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

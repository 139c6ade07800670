package consul

import (
	"context"
	"net/http"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
)

// mayHide reports whether the ACLs may have emptied an answer with that header, and Consul would not say so: it does not if no token is
// shown.
func (d *driver) mayHide(h http.Header) bool {
	return h.Get("X-Consul-Default-ACL-Policy") == "deny" && d.settings.token.Current() == ""
}

// checkReadable returns an error if the token may not read the service. Consul then refuses a lookup of what can be reached over the service
// mesh, instead of emptying its answer. What else that lookup finds does not matter.
func (s *source) checkReadable(ctx context.Context) error {
	slot, err := s.d.agent.Limiter.Acquire(ctx, agent.Lookup)
	if err != nil {
		return err
	}
	got := agent.Capture{}
	err = s.d.call(ctx, s.what(), s.d.settings.Timeout, func(ctx context.Context) error {
		_, _, err := s.d.agent.Client.Health().Connect(s.query.Service, "", true, s.d.readOptions(agent.WithCapture(ctx, &got)))
		return err
	})
	slot.Release(got.Status, got.Version)
	return err
}

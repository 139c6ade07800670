package consul

import (
	"context"
	"net/http"
)

// mayHide reports whether an answer that has nothing may be one that the ACLs have cut without a word, as they do for whoever
// shows no token.
func (d *driver) mayHide(h http.Header) bool {
	return h.Get("X-Consul-Default-ACL-Policy") == "deny" && d.settings.token.now() == ""
}

// mayRead returns an error where the token may not read the service. A read of what can be reached over the mesh is refused then,
// and not cut; what it answers does not matter.
func (s *source) mayRead(ctx context.Context) error {
	at, err := s.d.agent.crowd.enter(ctx, lookup)
	if err != nil {
		return err
	}
	got := capture{statusOnly: true}
	err = s.d.call(ctx, s.what(), s.d.settings.Timeout, func(ctx context.Context) error {
		_, _, err := s.d.client.Health().Connect(s.query.Service, "", true, s.d.readOptions(captured(ctx, &got)))
		return err
	})
	at.leave(got.status, got.version)
	return err
}

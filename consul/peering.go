package consul

import (
	"context"
	"errors"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/registry"
)

// checkPeering returns an error if the peering with the peer was deleted: what the peer exported was deleted with it. A token that may
// not see peerings does not find out.
func (s *source) checkPeering(ctx context.Context) error {
	peer := s.d.settings.Peer
	var found *api.Peering
	err := s.d.callAs(ctx, agent.Lookup, "read peering "+peer, func(ctx context.Context) (err error) {
		found, _, err = s.d.agent.Client.Peerings().Read(ctx, peer, s.d.agent.Options(ctx))
		return err
	})
	switch {
	case errors.Is(err, registry.ErrDenied):
		return nil
	case err != nil:
		return err
	case found == nil:
		return s.d.agent.Unavailable(s.what(), "the peering does not exist")
	case found.State == api.PeeringStateDeleting, found.State == api.PeeringStateTerminated:
		return s.d.agent.Unavailable(s.what(), "the peering has ended: it is "+string(found.State))
	}
	return nil
}

package consul

import (
	"sync"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
)

// sharedState is what the leases at each agent share.
type sharedState struct {
	mu sync.Mutex
	at map[*agent.Agent]*leasesAtAgent
}

type leasesAtAgent struct {
	catalog  *catalogState
	releases *releases
}

func (s *sharedState) of(a *agent.Agent) *leasesAtAgent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[a] == nil {
		if s.at == nil {
			s.at = map[*agent.Agent]*leasesAtAgent{}
		}
		s.at[a] = &leasesAtAgent{newCatalogState(), newReleases()}
	}
	return s.at[a]
}

// catalog returns what the leases at the agent of d know of the catalog.
func (d *driver) catalog() *catalogState { return d.shared.of(d.agent).catalog }

// releases returns what the leases at the agent of d share while they are released.
func (d *driver) releases() *releases { return d.shared.of(d.agent).releases }

package httpx

import (
	"cmp"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/registry"
)

// Snapshot describes what a [Transport] uses at a moment.
type Snapshot struct {
	Registry string         // the name of the registry
	Policy   string         // the policy of the Transport
	Services []ServiceState // sorted by service
}

// ServiceState describes one query of a [Snapshot].
type ServiceState struct {
	Query     registry.Query  // what is watched
	Err       string          // the error beside the set, or why there is no instance; "" if there is none
	Panicking bool            // too few instances pass, so all are used
	InGrace   bool            // all instances have left the registry, and their connections are used for EmptyGrace
	Instances []InstanceState // in use, in the order of the set
}

// InstanceState describes an instance in use.
type InstanceState struct {
	Instance    *registry.Instance // shared: do not change it
	Address     string             // that is dialled
	Connections int                // that are open
	Outstanding int                // requests that have not ended
	Latency     time.Duration      // as the policy p2c sees it
	Restriction string             // "" or why it is not used like the others: drained, spare, failing, withheld, unlisted
	LeftOut     bool               // it could not be dialled
	RetryIn     time.Duration      // until a request may try it, if it is left out
}

// Snapshot returns what t uses now. It sends nothing and does not block.
func (t *Transport) Snapshot() Snapshot {
	c, err := t.started()
	if err != nil {
		return Snapshot{}
	}
	out := Snapshot{Registry: choose.RegistryName(c.discovery), Policy: c.policy}
	for _, s := range c.all() {
		out.Services = append(out.Services, s.snapshot())
	}
	slices.SortFunc(out.Services, func(a, b ServiceState) int { return cmp.Compare(a.Query.Service, b.Query.Service) })
	return out
}

func (s *service) snapshot() ServiceState {
	s.Lock()
	defer s.Unlock()
	out := ServiceState{
		Query: s.rules.Query, Err: s.state.WatchError(), Panicking: s.state.Used().Panicking, InGrace: s.state.InGrace(),
		Instances: make([]InstanceState, 0, len(s.nodes)),
	}
	if s.rules.WatchesAll {
		out.Query.AnyStatus = false
	}
	if len(s.nodes) == 0 && s.empty != nil {
		out.Err = s.empty.Error()
	}
	now := load.Clock()
	for _, n := range s.nodes {
		state := InstanceState{
			Instance: n.instance.Load(), Address: n.key.address, Connections: n.link.Ready, Outstanding: n.Outstanding(), Latency: n.Latency(),
			Restriction: n.restriction.String(), LeftOut: n.isEjected.Load(),
		}
		if state.LeftOut {
			state.RetryIn = max(time.Duration(n.probeAt.Load())-now, 0)
		}
		out.Instances = append(out.Instances, state)
	}
	return out
}

package consul

import (
	"context"
	"time"
)

// left remembers that the entry of an announcement was written to an agent, until it is removed from there. A program that
// goes on at another agent leaves its entry behind at one that it cannot reach. Where the check is not a heartbeat it may pass
// there for ever, so the entry is removed as soon as that can be.
func (p *agents) left(serviceID string, at *agent, of mark) {
	if len(p.all) == 1 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = map[string]map[*agent]mark{}
	}
	if p.entries[serviceID] == nil {
		p.entries[serviceID] = map[*agent]mark{}
	}
	p.entries[serviceID][at] = of
}

// forget undoes left.
func (p *agents) forget(serviceID string, at *agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.entries[serviceID], at); len(p.entries[serviceID]) == 0 {
		delete(p.entries, serviceID)
	}
}

// elsewhere returns the agents that may have an entry of ours but for one, and the mark of each.
func (p *agents) elsewhere(serviceID string, but *agent) map[*agent]mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[*agent]mark{}
	for a, m := range p.entries[serviceID] {
		if a != but {
			out[a] = m
		}
	}
	return out
}

// clearElsewhere removes what earlier leases of the same entry have left at other agents, as soon as those answer. It ends
// with ctx, or when there is nothing left.
func (l *lease) clearElsewhere(ctx context.Context) {
	tick := time.NewTicker(l.d.settings.TTL / 3)
	defer tick.Stop()
	for {
		left := l.d.agents.elsewhere(l.serviceID, l.d.agent)
		if len(left) == 0 {
			return
		}
		for a, m := range left {
			l.clear(ctx, a, m)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clearBriefly gives other agents one chance to remove what was left there, since nobody will ask them again. An entry that
// stays expires.
func (l *lease) clearBriefly(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeoutOfSeveral)
	defer cancel()
	for a, m := range l.d.agents.elsewhere(l.serviceID, l.d.agent) {
		l.clear(ctx, a, m)
	}
}

// clear makes one attempt to remove the entry of an announcement at a, which forgets it then.
func (l *lease) clear(ctx context.Context, a *agent, of mark) {
	there := &lease{d: l.d.at(a), serviceID: l.serviceID, mark: of, writing: make(chan struct{}, 1)}
	_ = there.remove(ctx) // what could not be removed is remembered
}

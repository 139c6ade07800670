package consul

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// orphans are the entries that predecessors of a lease left at other agents, which could not be reached when the driver switched. An
// entry whose check is no heartbeat may pass there for ever, so it is removed as soon as its agent answers again.
type orphans struct {
	mu sync.Mutex
	at map[*agent.Agent]codec.Owner // the newest owner tag at each agent
}

// inherit takes over what prev has left at other agents than now. A new registration at now replaces what is there.
func (o *orphans) inherit(prev *lease, now *agent.Agent) {
	o.at = prev.orphans.all()
	if prev.mayBeStored {
		o.at[prev.d.agent] = prev.owner
	}
	delete(o.at, now)
}

func (o *orphans) all() map[*agent.Agent]codec.Owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == nil {
		return map[*agent.Agent]codec.Owner{}
	}
	return maps.Clone(o.at)
}

func (o *orphans) removed(at *agent.Agent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.at, at)
}

// removeOrphans removes the orphaned entries, as soon as their agents answer. It ends with ctx, or when there are none left.
func (l *lease) removeOrphans(ctx context.Context) {
	tick := time.NewTicker(l.d.settings.TTL / 3)
	defer tick.Stop()
	for l.removeOrphansOnce(ctx) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// removeOrphansBriefly gives each agent one chance to remove an orphaned entry, when no one will ask it again. What is left expires.
func (l *lease) removeOrphansBriefly(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, agent.DialTimeoutOfSeveral)
	defer cancel()
	l.removeOrphansOnce(ctx)
}

// removeOrphansOnce makes one attempt to remove each orphaned entry, and returns how many are left.
func (l *lease) removeOrphansOnce(ctx context.Context) (left int) {
	for a, owner := range l.orphans.all() {
		orphan := &lease{d: l.d.at(a), serviceID: l.serviceID, owner: owner, entryLock: newMutex()}
		orphan.oldest.Store(l.oldest.Load())
		if orphan.remove(ctx) == nil {
			l.orphans.removed(a)
		} else {
			left++
		}
	}
	return left
}

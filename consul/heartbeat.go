package consul

import (
	"context"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/registry"
)

// TTL implements [registry.Lease].
func (l *lease) TTL() time.Duration {
	if !l.d.settings.Checks.has(CheckTTL) {
		return 0
	}
	return l.d.settings.TTL
}

// Renew implements [registry.Lease] by a heartbeat. If the agent refuses one for want of a connection, or does not answer it in time, the next
// one makes up for it: to register the instance again would keep the agent busier. A second failure in a row ends the lease.
func (l *lease) Renew(ctx context.Context) error {
	err := l.checkLock.lock(ctx)
	if err == nil {
		err = l.heartbeat(ctx, l.status, min(l.d.settings.TTL/3, l.d.settings.Timeout))
		l.checkLock.unlock()
	}
	if l.releasing.Load() && agent.IsNotFound(err) {
		return nil
	}
	missed := l.missed
	l.missed = err != nil
	late := agent.IsTimeout(err) || err != nil && ctx.Err() == context.DeadlineExceeded
	if !missed && (agent.IsRefused(err) || late) {
		return nil
	}
	return err
}

// firstHeartbeat sends a heartbeat right after the entry was registered, for two reasons:
//
//   - Consul keeps the status of a check over a restart of the agent only if a heartbeat has written it.
//   - An agent that was paused shows the old status until its timers run: a check that passed when it was read may be critical by now,
//     until the next heartbeat.
//
// If the agent refuses it for want of a connection, the next one makes up for it.
func (l *lease) firstHeartbeat(ctx context.Context, s registry.Status) error {
	err := l.setStatus(ctx, s, true)
	if agent.IsRefused(err) {
		return nil
	}
	return err
}

// setStatus makes s the status of all further heartbeats. If now is set, it sends one.
func (l *lease) setStatus(ctx context.Context, s registry.Status, now bool) error {
	if err := l.checkLock.lock(ctx); err != nil {
		return err
	}
	defer l.checkLock.unlock()
	if now {
		if err := l.heartbeat(ctx, s, l.d.settings.Timeout); err != nil {
			return err
		}
	}
	l.status = s
	return nil
}

// heartbeat writes the TTL check. The caller has locked checkLock.
func (l *lease) heartbeat(ctx context.Context, s registry.Status, limit time.Duration) error {
	what := "heartbeat of " + l.serviceID
	limited, cancel := context.WithTimeout(ctx, limit) // also of the wait for a slot: every heartbeat must find out that an agent hangs
	defer cancel()
	slot, err := l.d.agent.Limiter.Acquire(limited, agent.Heartbeat)
	if err != nil {
		return l.d.agent.Classify(ctx, what, limit, err)
	}
	return l.d.callAt(ctx, slot, what, limit, func(ctx context.Context) error {
		// Without an output: Consul writes a check whose output changed to the catalog, which wakes every watch.
		return l.d.agent.Client.Agent().UpdateTTLOpts(checkID(l.serviceID), "", codec.CheckStatus(s), l.d.agent.Options(ctx))
	})
}

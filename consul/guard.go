package consul

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// unchangedPause is how long to wait after a read that should have waited for a change and did not, as one does when the agent
// shuts down: the next one finds the connection refused.
const unchangedPause = time.Second

// Keep implements [registry.Lease]. Heartbeats keep the check, and a read that waits for the entry to change tells at once
// when it is gone.
func (l *lease) Keep(ctx context.Context) error {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, 2)
	var work sync.WaitGroup
	work.Go(func() { ends <- l.heartbeats(both) })
	work.Go(func() { ends <- l.guard(both) })
	work.Go(func() { l.followToken(both) })
	work.Go(func() { l.clearElsewhere(both) })
	var err error
	select {
	case err = <-ends:
	case <-l.released:
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	work.Wait()
	switch {
	case isGone(err) && l.releasing.Load(), l.isReleased():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

func (l *lease) isReleased() bool {
	select {
	case <-l.released:
		return true
	default:
		return false
	}
}

// heartbeats gives a sign of life each third of the TTL, until one fails. One that the agent refuses, since others have the
// connections, is made up for by the next: to announce the instance again would take more of them.
func (l *lease) heartbeats(ctx context.Context) error {
	if !l.d.settings.Checks.has(CheckTTL) {
		<-ctx.Done()
		return ctx.Err()
	}
	every := l.d.settings.TTL / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for refused := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := l.repeat(ctx, min(every, l.d.settings.Timeout))
		if err != nil && (refused || !isRefused(err)) {
			return err
		}
		refused = err != nil
	}
}

// repeat gives a sign of life with the status of the last one.
func (l *lease) repeat(ctx context.Context, limit time.Duration) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	return l.heartbeat(ctx, l.status, limit)
}

// guard reads the entry, and again whenever it changes, until it is not this lease's any more. It learns at once of an
// agent that dies, since the connection of the waiting read breaks. A read that the agent refuses, since others have the
// connections, says nothing of the entry, and is made again, as long as there are heartbeats to tell that the entry is gone.
func (l *lease) guard(ctx context.Context) error {
	hash := ""
	for {
		now, waited, err := l.look(ctx, hash)
		refused := isRefused(err) && l.d.settings.Checks.has(CheckTTL)
		if err != nil && !refused {
			return err
		}
		if refused || now == "" || now == hash && !waited {
			pause := time.NewTimer(unchangedPause)
			select {
			case <-ctx.Done():
				pause.Stop()
				return ctx.Err()
			case <-pause.C:
			}
		}
		if !refused {
			hash = now
		}
	}
}

// look waits until the hash of the entry is another, or a wait has passed, which it reports, and puts right what is written there.
func (l *lease) look(ctx context.Context, hash string) (now string, waited bool, err error) {
	entry, now, waited, err := l.await(ctx, hash)
	if err != nil {
		return "", false, err
	}
	if err := l.mine(entry); err != nil {
		return "", false, err
	}
	if l.isOutdated(entry) {
		if err := l.rewrite(ctx); err != nil {
			return "", false, err
		}
	}
	l.seen.Store(time.Now().UnixNano())
	return now, waited, nil
}

// await returns the entry and its hash when the hash is another, or when a wait has passed, which it reports.
func (l *lease) await(ctx context.Context, hash string) (entry *api.AgentService, now string, waited bool, err error) {
	if hash == "" {
		entry, now, err = l.read(ctx)
		return entry, now, false, err
	}
	at, err := l.d.agent.crowd.enter(ctx, guarding)
	if err != nil {
		return nil, "", false, err
	}
	wait := at.wait(l.d.settings.Wait)
	began := time.Now()
	err = l.d.callAt(ctx, at, "read "+l.serviceID, waitLimit(wait), func(ctx context.Context) (err error) {
		o := l.d.agentOptions(ctx)
		o.WaitHash, o.WaitTime = hash, wait
		entry, now, err = l.entry(o)
		return err
	})
	return entry, now, time.Since(began) >= wait, err
}

// read returns the entry and its hash.
func (l *lease) read(ctx context.Context) (entry *api.AgentService, hash string, err error) {
	err = l.call(ctx, "read "+l.serviceID, func(ctx context.Context) (err error) {
		entry, hash, err = l.entry(l.d.agentOptions(ctx))
		return err
	})
	return entry, hash, err
}

func (l *lease) entry(o *api.QueryOptions) (*api.AgentService, string, error) {
	entry, meta, err := l.d.client.Agent().Service(l.serviceID, o)
	if err != nil {
		return nil, "", err
	}
	if entry == nil {
		return nil, "", errors.New("the answer is null")
	}
	return entry, meta.LastContentHash, nil
}

// mine returns an error where entry is another's.
func (l *lease) mine(entry *api.AgentService) error {
	if l.mark.isOf(parseMark(entry.Meta[metaOwner])) {
		return nil
	}
	return fmt.Errorf("%w: consul at %s has it under %s", registry.ErrReplaced, l.d.settings.location, l.serviceID)
}

// isOutdated reports whether entry is of a write before the newest.
func (l *lease) isOutdated(entry *api.AgentService) bool {
	return l.newest().outdates(parseMark(entry.Meta[metaOwner]))
}

package consul

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// unchangedPause is the pause after a read that should have waited for a change and did not, as one does when the agent shuts down:
	// the next one finds the connection refused.
	unchangedPause = time.Second
	// changedPause is the least time between two reads of an entry that changes. Without it, an agent that reports a change each time
	// would be asked without a pause.
	changedPause = 50 * time.Millisecond
)

// Wait implements [registry.Lease]. Two goroutines can find the entry lost: the entry watch, if it is gone from the agent, and the catalog
// watch, if it is gone from there.
func (l *lease) Wait(ctx context.Context) error {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, 2)
	var work sync.WaitGroup
	work.Go(func() { ends <- l.watchEntry(both) })
	work.Go(func() { ends <- l.watchCatalog(both) })
	work.Go(func() { l.followToken(both) })
	work.Go(func() { l.removeOrphans(both) })
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
	case agent.IsNotFound(err) && l.releasing.Load(), l.isReleased():
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

// watchEntry reads the entry, and again whenever it changes, until it is of another registration. It notices at once that the agent
// dies, since the connection of the waiting read breaks, and the next read, which does not wait, fails as well. If that succeeds,
// something between the two ended the wait, such as a proxy that limits the time of a call: that says nothing about the entry.
func (l *lease) watchEntry(ctx context.Context) error {
	hash := ""
	for {
		began := time.Now()
		now, waited, err := l.checkEntry(ctx, hash)
		if err != nil && !l.mayReadAgain(ctx, hash, err) {
			return err
		}
		early := now == "" || now == hash && !waited
		if err != nil {
			early = agent.IsRefused(err) || time.Since(began) < unchangedPause
		}
		pause := changedPause - time.Since(began)
		if early {
			pause = unchangedPause
		}
		if pause > 0 && !sleep.For(ctx, pause) {
			return ctx.Err()
		}
		if !agent.IsRefused(err) {
			hash = now // none after a failure
		}
	}
}

// mayReadAgain reports whether err, the failure to read the entry, says nothing about the entry. A refusal for want of a connection does
// not, as long as heartbeats would find that the entry is gone.
func (l *lease) mayReadAgain(ctx context.Context, hash string, err error) bool {
	switch {
	case ctx.Err() != nil, agent.IsNotFound(err), !errors.Is(err, registry.ErrUnavailable):
		return false
	case agent.IsRefused(err):
		return l.TTL() > 0
	case strings.Contains(err.Error(), string(agent.ErrHangs)):
		return false
	}
	return hash != "" // it was a read that waits
}

// checkEntry waits until the hash of the entry changes. waited reports that it did not change for as long as a read may wait. If a delayed
// write has replaced the entry, checkEntry writes the newest content again.
func (l *lease) checkEntry(ctx context.Context, hash string) (now string, waited bool, err error) {
	entry, now, waited, err := l.await(ctx, hash)
	if err != nil {
		return "", false, err
	}
	if err := l.checkOwner(entry); err != nil {
		return "", false, err
	}
	if l.isOutdated(entry) {
		if err := l.rewrite(ctx); err != nil {
			return "", false, err
		}
		now = "" // the same write may be delayed once more: a read that waits for another hash than its own would not see it
	}
	l.entrySeen.Store(time.Now().UnixNano())
	return now, waited, nil
}

// await returns the entry and its hash when the hash changes. waited reports that it did not change for as long as a read may wait.
func (l *lease) await(ctx context.Context, hash string) (entry *api.AgentService, now string, waited bool, err error) {
	if hash == "" {
		entry, now, err = l.read(ctx)
		return entry, now, false, err
	}
	slot, err := l.d.agent.Limiter.Acquire(ctx, agent.EntryWatch)
	if err != nil {
		return nil, "", false, err
	}
	wait := slot.Wait(l.d.settings.Wait)
	began := time.Now()
	err = l.d.callAt(ctx, slot, "read "+l.serviceID, waitLimit(wait), func(ctx context.Context) (err error) {
		o := l.d.agent.Options(ctx)
		o.WaitHash, o.WaitTime = hash, wait
		entry, now, err = l.entry(o)
		return err
	})
	return entry, now, time.Since(began) >= wait, err
}

// read returns the entry and its hash.
func (l *lease) read(ctx context.Context) (entry *api.AgentService, hash string, err error) {
	err = l.call(ctx, "read "+l.serviceID, func(ctx context.Context) (err error) {
		entry, hash, err = l.entry(l.d.agent.Options(ctx))
		return err
	})
	return entry, hash, err
}

func (l *lease) entry(o *api.QueryOptions) (*api.AgentService, string, error) {
	entry, meta, err := l.d.agent.Client.Agent().Service(l.serviceID, o)
	if err != nil {
		return nil, "", err
	}
	if entry == nil {
		return nil, "", errors.New("the answer is null")
	}
	if entry.ID == "" && entry.Meta == nil {
		return nil, "", agent.Fault("the answer is no entry")
	}
	return entry, meta.LastContentHash, nil
}

// waitLimit limits a call that the server lets wait for up to wait. The server adds up to a sixteenth to spread its clients, and needs
// time to find out that it has no leader.
func waitLimit(wait time.Duration) time.Duration { return wait + wait/16 + 8*time.Second }

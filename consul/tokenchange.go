package consul

import (
	"context"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/sleep"
)

// followToken registers the entry again whenever the token file has another token, so that the old token may expire. It ends with ctx. An
// attempt that fails, as with a token that the agent's server does not know yet, is repeated.
func (l *lease) followToken(ctx context.Context) {
	if !l.d.settings.token.Rotates() {
		return
	}
	l.d.agents.FollowToken()
	for {
		changed := l.d.settings.token.Changed()
		if l.moveToToken(ctx) != nil {
			// Heartbeats, which use the new token as well, show the failure.
			if !sleep.For(ctx, agent.TokenInterval) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// moveToToken makes one attempt to register the entry with the current token, unless it is already.
func (l *lease) moveToToken(ctx context.Context) error {
	if err := l.entryLock.lock(ctx); err != nil {
		return err
	}
	defer l.entryLock.unlock()
	if l.stored.service == nil || l.stored.token == l.d.settings.token.Current() || l.releasing.Load() {
		return nil
	}
	entry, _, err := l.read(ctx)
	if err != nil {
		return err
	}
	if err := l.checkOwner(entry); err != nil {
		return err
	}
	return l.putAgain(ctx)
}

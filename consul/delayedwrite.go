package consul

import (
	"context"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
)

// isOutdated reports whether entry is of a write before the newest.
func (l *lease) isOutdated(entry *api.AgentService) bool {
	return l.newest().IsNewerThan(codec.ParseOwner(entry.Meta[codec.MetaOwner]))
}

// rewrite replaces what a delayed write left by what was written last.
func (l *lease) rewrite(ctx context.Context) error {
	if err := l.entryLock.lock(ctx); err != nil { // an Update that is in flight may write what the entry lacks
		return err
	}
	defer l.entryLock.unlock()
	entry, _, err := l.read(ctx)
	if err != nil {
		return err
	}
	if err := l.checkOwner(entry); err != nil {
		return err
	}
	last := l.stored.service
	if !l.isOutdated(entry) || last == nil || last.Meta[codec.MetaOwner] != l.newest().String() || l.releasing.Load() {
		return nil // the newest content is not written yet, and its caller writes it
	}
	return l.putAgain(ctx)
}

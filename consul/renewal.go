package consul

import (
	"context"
	"time"

	"github.com/hashicorp/consul/api"
)

// written is what a lease has registered last. The agent keeps the token of a registration, and writes the entry and its
// check to the catalog with it: once that token has expired the catalog shows for ever what was there before.
type written struct {
	service *api.AgentServiceRegistration
	own     []string // the tags that the instance has
	token   string
}

// put registers service, of an instance with tags of its own, with the token of the day. The caller has the right to write.
func (l *lease) put(ctx context.Context, service *api.AgentServiceRegistration, own []string) error {
	w := written{service, own, l.d.settings.token.now()}
	// Not with replace-existing-checks, which would delete an operator's maintenance.
	err := l.call(ctx, "register "+l.serviceID, func(ctx context.Context) error {
		return l.d.client.Agent().ServiceRegisterOpts(service, api.ServiceRegisterOpts{Token: w.token}.WithContext(ctx))
	})
	if err == nil {
		l.written = w
		l.rememberTags(w)
	}
	return err
}

// again registers what was registered last. The caller has the right to write. Once the write has begun the end of ctx does not cut
// it off: the agent might read it all the same, after the entry was released. Release waits for it.
func (l *lease) again(ctx context.Context) error {
	service := *l.written.service
	if l.d.settings.EnableTagOverride {
		l.takeTags(ctx, &service, service.Meta[metaOwner])
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.d.settings.Timeout)
	defer cancel()
	return l.put(whole, &service, l.written.own)
}

// rewrite puts what was written last in the place of a write that was late.
func (l *lease) rewrite(ctx context.Context) error {
	if err := l.lock(ctx); err != nil { // an Update in flight may be what the entry lacks
		return err
	}
	defer l.unlock()
	entry, _, err := l.read(ctx)
	if err != nil {
		return err
	}
	if err := l.mine(entry); err != nil {
		return err
	}
	last := l.written.service
	if !l.isOutdated(entry) || last == nil || last.Meta[metaOwner] != l.newest().String() || l.releasing.Load() {
		return nil // what has not been written yet is its caller's to write
	}
	return l.again(ctx)
}

// lock gets the right to register the entry and to remove it.
func (l *lease) lock(ctx context.Context) error {
	select {
	case l.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lease) unlock() { <-l.writing }

// followToken registers the entry again, as it is, whenever there is a new token, so that the old one may expire. It ends
// with ctx. A new token that is refused, as one is that the agent's server does not know yet, is tried again.
func (l *lease) followToken(ctx context.Context) {
	if l.d.settings.token.path == "" {
		return
	}
	tick := time.NewTicker(tokenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// What fails here shows in the heartbeats, which use the new token too.
		_ = l.renew(ctx)
	}
}

// renew makes one attempt to move the entry to the token of the day, where it is not there yet.
func (l *lease) renew(ctx context.Context) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	if l.written.service == nil || l.written.token == l.d.settings.token.now() || l.releasing.Load() {
		return nil
	}
	entry, _, err := l.read(ctx)
	if err != nil {
		return err
	}
	if err := l.mine(entry); err != nil {
		return err
	}
	return l.again(ctx)
}

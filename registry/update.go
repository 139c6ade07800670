package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// wish is the content of one Update that is not written yet. It is the wanted content from the moment of the call. It is written by one
// of these:
//
//   - the Update itself,
//   - a concurrent Update,
//   - the keeper, when it registers a lost instance again,
//   - catchUp, after the Update has given up.
type wish struct {
	content *Instance     // guarded by registration.mu
	filled  bool          // content.Address and content.Endpoints have no wildcard hosts; guarded by registration.mu
	waiting bool          // its Update waits for it; guarded by registration.mu
	unsure  bool          // an attempt failed, so the store may have it; guarded by registration.mu
	undoes  bool          // it restores the old content, since the store may have a wish that it refused later; guarded by registration.mu
	done    chan struct{} // closed when this content or the content of a later Update was written, or this content was refused
	refusal error         // why the store refuses the content; set before done is closed
}

func (w *wish) isDone() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// maxKeptWishes bounds the superseded wishes of Updates that gave up. They are kept as fallbacks, in case the store refuses all newer
// wishes.
const maxKeptWishes = 16

// Update implements [Registration].
func (g *registration) Update(ctx context.Context, in Instance) error {
	if in.Status != Passing {
		g.reportDeparture() // a watch may notice before this returns
	}
	if err := g.update(ctx, in); err != nil {
		return g.error("update", err)
	}
	if in.Status != Passing {
		g.reportDeparture() // it may have taken long
	}
	g.r.wrote(g.service)
	return nil
}

func (g *registration) update(ctx context.Context, in Instance) error {
	opCtx, end, err := g.r.beginWrite(ctx)
	if err != nil {
		return err
	}
	defer end()
	w, err := g.wish(opCtx, in)
	if err != nil {
		return err
	}
	err = g.r.retry(ctx, opCtx, "update", g.service, g.id, func(ctx context.Context) error { return g.write(ctx, ctx, w) })
	if err != nil {
		g.giveUp(w, err)
	}
	return err
}

// wish makes in the wanted content, unless it can never be registered.
func (g *registration) wish(ctx context.Context, in Instance) (*wish, error) {
	in.Service, in.ID = cmp.Or(in.Service, g.service), cmp.Or(in.ID, g.id)
	if in.Service != g.service {
		return nil, invalid("Service", in.Service, fmt.Sprintf("differs from the registration, %q", g.service))
	}
	if in.ID != g.id {
		return nil, invalid("ID", in.ID, fmt.Sprintf("differs from the registration, %q", g.id))
	}
	want, err := normalize(in)
	if err != nil {
		return nil, err
	}
	w := &wish{content: want, waiting: true, done: make(chan struct{})}
	full := want.Clone()
	switch err := g.r.fillHosts(ctx, full); {
	case err == nil:
		w.content, w.filled = full, true
	case !errors.Is(err, ErrUnavailable):
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deregistered {
		return nil, ErrClosed
	}
	g.wishes = append(g.wishes, w)
	return w, nil
}

// newest returns the newest wish, or a wish for the present content if there is none. g.mu is locked.
func (g *registration) newest() *wish {
	if len(g.wishes) > 0 {
		return g.wishes[len(g.wishes)-1]
	}
	return &wish{content: g.content, filled: true}
}

// write tries once to write the newest wish. If the store refuses that wish and w is an older one, it tries the next newest. It returns
// when w is done or an attempt has failed. While the entry is lost, the keeper writes, and write waits for it. wait governs the waiting,
// and call the attempts.
func (g *registration) write(wait, call context.Context, w *wish) error {
	for !w.isDone() {
		select {
		case <-w.done:
			return w.refusal
		case <-g.ctx.Done():
			return ErrClosed
		case <-wait.Done():
			return g.whileLost(wait.Err())
		case <-g.writer:
		}
		restored, err := g.writeNewest(call, w)
		g.unlockAfterWrite()
		g.catchUpLater()
		if err != nil {
			return err
		}
		if restored == nil {
			continue
		}
		select {
		case <-w.done:
		case <-g.ctx.Done():
		case <-wait.Done():
		case <-restored:
		}
	}
	return w.refusal
}

// writeNewest makes one attempt to write the newest wish. While the entry is lost it makes none, and returns the channel that is
// closed when the instance is registered again. The caller has the writer lock.
func (g *registration) writeNewest(ctx context.Context, w *wish) (restored <-chan struct{}, err error) {
	g.mu.Lock()
	newest, lease, lost := g.newest(), g.lease, g.err
	restored = g.restored
	deregistered := g.deregistered
	g.mu.Unlock()
	switch {
	case w.isDone():
		return nil, nil
	case deregistered:
		return nil, ErrClosed
	case errors.Is(lost, ErrReplaced):
		return nil, lost
	case lost != nil:
		return restored, nil
	}
	in, err := g.fill(ctx, newest)
	if err == nil {
		err = lease.Update(ctx, in)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.finish(newest, in)
	case errors.Is(err, ErrReplaced):
		g.replaced = err
		if g.endWait != nil { // otherwise the keeper is about to call Wait, and looks at replaced first
			g.endWait()
		}
	case refusesContent(err), refuses(err) && newest.waiting:
		g.refuse(newest, err)
		return nil, nil
	default:
		newest.unsure = true
	}
	return nil, err
}

// fill returns the content of w without wildcard hosts. The caller has the writer lock.
func (g *registration) fill(ctx context.Context, w *wish) (*Instance, error) {
	g.mu.Lock()
	in, filled := w.content, w.filled
	g.mu.Unlock()
	if filled {
		return in, nil
	}
	in = in.Clone()
	if err := g.r.fillHosts(ctx, in); err != nil {
		return nil, err
	}
	g.mu.Lock()
	w.content, w.filled = in, true
	g.mu.Unlock()
	return in, nil
}

// finish records that written, the content of w, is in the store. w and all older wishes are done. g.mu is locked.
func (g *registration) finish(w *wish, written *Instance) {
	g.content = written
	for i := range 1 + slices.Index(g.wishes, w) {
		close(g.wishes[i].done)
	}
	g.wishes = slices.Delete(g.wishes, 0, 1+slices.Index(g.wishes, w))
	g.catchesUp()
}

// catchesUp clears behind if no Update that gave up is left to write. g.mu is locked.
func (g *registration) catchesUp() {
	if !slices.ContainsFunc(g.wishes, func(w *wish) bool { return !w.waiting }) {
		g.behind = nil
	}
}

// refuse drops w, which the store has refused. The next newest wish, or else the present content, becomes the wanted content. g.mu is
// locked.
func (g *registration) refuse(w *wish, err error) {
	i := slices.Index(g.wishes, w)
	if i < 0 {
		return
	}
	g.wishes = slices.Delete(g.wishes, i, i+1)
	g.catchesUp()
	w.refusal = err
	close(w.done)
	if w.unsure && !w.undoes && len(g.wishes) == 0 {
		g.undo(err)
	}
	if !w.waiting {
		g.warn("rollcall: update refused, keeping the content from before", err, nil)
	}
}

// undo makes the present content wanted again. The store may have other content, which it has refused since by err. g.mu is locked.
func (g *registration) undo(err error) {
	g.wishes = append(g.wishes, &wish{content: g.content, filled: true, undoes: true, done: make(chan struct{})})
	g.behind = err
}

// whyBehind says why the store does not have the wanted content for certain. g.mu is locked.
func (g *registration) whyBehind() error {
	if g.newest().undoes {
		return fmt.Errorf("the registry may have the content of an Update that it has refused since: %w", g.behind)
	}
	return fmt.Errorf("the new content is not registered yet, the old one still is: %w", g.behind)
}

// refuses reports whether err says that the store rejects the content, or denies this client.
func refuses(err error) bool { return refusesContent(err) || errors.Is(err, ErrDenied) }

// refusesContent reports whether err says that the store rejects the content, for any client.
func refusesContent(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnsupported)
}

// whileLost adds to err why the entry is lost, if it is.
func (g *registration) whileLost(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		return err
	}
	return fmt.Errorf("%w; the registration is lost: %w", err, g.err)
}

// giveUp ends the waiting of w's Update, which returns err. w remains a wish, unless err is a refusal.
func (g *registration) giveUp(w *wish, err error) {
	g.mu.Lock()
	switch {
	case w.isDone():
	case refuses(err) && !ended(err): // if the context ended, err may say that a renewal was denied
		g.refuse(w, err)
	default:
		w.waiting = false
		g.dropOldest()
		g.fallsBehind(err)
	}
	g.mu.Unlock()
	g.catchUpLater()
}

// dropOldest drops the oldest superseded wish that no Update waits for, if there are more than maxKeptWishes. g.mu is locked.
func (g *registration) dropOldest() {
	oldest, n := 0, 0
	for i := len(g.wishes) - 2; i >= 0; i-- {
		if !g.wishes[i].waiting {
			oldest, n = i, n+1
		}
	}
	if n > maxKeptWishes {
		g.wishes = slices.Delete(g.wishes, oldest, oldest+1)
	}
}

// fallsBehind notes why the newest wish is not written yet. g.mu is locked.
func (g *registration) fallsBehind(err error) {
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDenied) && !errors.Is(err, ErrReplaced) {
		err = fmt.Errorf("%w: the registry has not confirmed it yet", ErrUnavailable)
	}
	g.behind = err
}

// catchUpLater has catchUp run if it is needed and does not run yet. It does not block.
func (g *registration) catchUpLater() {
	g.mu.Lock()
	start := g.due() != nil && !g.catching && g.running > 0
	if start {
		g.catching = true
		g.running++
	}
	g.mu.Unlock()
	if start && !g.r.start(g.catchUp) {
		g.goroutineEnded()
	}
}

// due returns the wish that catchUp has to write: the newest one, if the entry is registered and no Update waits for it. The keeper
// writes it if the entry is lost. g.mu is locked.
func (g *registration) due() *wish {
	if g.err != nil || g.replaced != nil || g.deregistered || len(g.wishes) == 0 || g.newest().waiting {
		return nil
	}
	return g.newest()
}

// catchUp writes the content of Updates whose callers have given up. Until then the old content stays registered.
func (g *registration) catchUp() {
	defer g.goroutineEnded()
	log := &g.r.failures.catchUp
	defer log.recovered(g)
	retry := g.r.newBackoff()
	for {
		g.mu.Lock()
		w := g.due()
		g.catching = w != nil
		g.mu.Unlock()
		if w == nil {
			return
		}
		if w.content.Status != Passing {
			g.reportDeparture()
		}
		err := g.write(g.ctx, g.r.ctx, w)
		if err == nil {
			g.r.wrote(g.service)
		}
		if err == nil || g.ctx.Err() != nil {
			continue
		}
		err = g.r.classify(g.r.ctx, err)
		g.mu.Lock()
		if len(g.wishes) > 0 {
			g.fallsBehind(err)
		}
		g.mu.Unlock()
		if tell, facts := log.failed(g, err, false); tell {
			g.warn("rollcall: update not registered, keeping the old content and retrying", err, facts)
		}
		if !retry.wait(g.ctx) {
			return
		}
	}
}

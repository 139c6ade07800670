package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Close waits this long for calls of the driver that go on although their contexts have ended. Together they are less than the second
// that Close promises.
const (
	releaseGrace = 200 * time.Millisecond // calls that deregister, after CloseTimeout
	closeGrace   = 750 * time.Millisecond // all others, the driver's own Close, and observers
)

// Close leaves the registry. It does this, in order:
//
//   - Register and Update end with [ErrClosed], as do all later calls.
//   - It deregisters, all at once, what is still registered, unless [Options.KeepOnClose] is set: then each entry stays until its
//     lease expires, as if the process had died. While the registry cannot be reached it retries until [Options.CloseTimeout].
//   - It ends every watch and every other call in progress with ErrClosed, waits for their goroutines, and closes the driver.
//
// Close returns an error that names the registrations that could not be deregistered, which stay until they expire, and the driver's
// own error. It returns within CloseTimeout and a second. If a call of the driver does not end in that time although its context
// has, Close returns an error that says so, or logs it if the call only reads; the driver is closed as soon as that call has ended.
//
// Closing again waits for the first Close and returns the same. It may be called while any other method runs.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.down
		return r.closeErr
	}
	r.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), r.opts.CloseTimeout)
	defer cancel()
	r.leaving = ctx
	r.stopWrites()
	for _, f := range r.feeds {
		f.stopTimer()
	}
	for _, f := range r.valueFeeds {
		f.stopTimer()
	}
	registered := slices.Collect(maps.Keys(r.registrations))
	r.mu.Unlock()

	left := r.deregisterAll(ctx, registered)
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	grace, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	observed := r.observers.close()
	err := r.closeDriver(grace)
	select {
	case <-observed:
	case <-grace.Done():
		r.opts.Logger.Warn("rollcall: closed before an observer has returned", "registry", r.String())
	}
	if left != nil && err != nil {
		err = fmt.Errorf("%w; %w", left, err)
	}
	if err = cmp.Or(err, left); err != nil {
		r.closeErr = &Error{Op: "close", Err: err}
	}
	close(r.down)
	return r.closeErr
}

// deregisterAll deregisters all and waits for the calls of Register in progress, until ctx ends. It returns an error that names what
// is left.
func (r *Registry) deregisterAll(ctx context.Context, all []*registration) error {
	if r.opts.KeepOnClose {
		all = nil
	}
	over, cancel := context.WithTimeout(context.Background(), r.opts.CloseTimeout+releaseGrace)
	defer cancel()
	type result struct {
		g   *registration
		err error
	}
	results := make(chan result, len(all)) // has room for results that come too late
	left := map[*registration]error{}
	for _, g := range all {
		left[g] = fmt.Errorf("%w: the registry does not answer", ErrUnavailable)
		r.work.Go(func() { results <- result{g, g.leave(ctx)} })
	}
	registering := make(chan struct{})
	r.work.Go(func() {
		r.registering.Wait()
		close(registering)
	})
	for range all {
		select {
		case res := <-results:
			if left[res.g] = res.err; res.err == nil {
				delete(left, res.g)
			}
		case <-over.Done():
		}
	}
	select {
	case <-registering:
	case <-over.Done():
	}
	if len(left) == 0 {
		return nil
	}
	return &leftBehind{left: left, of: len(all)}
}

// leave deregisters on Close.
func (g *registration) leave(ctx context.Context) error {
	g.mu.Lock()
	g.deregistered = true
	g.mu.Unlock()
	g.stop()
	g.reportDeparture() // a watch may notice before this returns
	if err := g.lockToRelease(ctx); err != nil {
		return g.whileLost(fmt.Errorf("%w: a write is still in flight: %w", ErrUnavailable, err))
	}
	defer g.unlock()
	return g.r.retry(ctx, ctx, "close", g.service, g.id, g.release)
}

// closeDriver waits for every goroutine and every call that uses the driver, and closes it. It gives up when grace ends.
func (r *Registry) closeDriver(grace context.Context) error {
	worked, closed := make(chan struct{}), make(chan error, 1)
	go func() {
		r.work.Wait()
		close(worked)
		r.reads.Wait()
		closed <- r.driver.Close()
	}()
	select {
	case err := <-closed:
		return err
	case <-grace.Done():
		r.giveUp()
	}
	select {
	case <-worked: // what is left is a read that decodes a huge answer, which does no harm
		r.opts.Logger.Warn("rollcall: closed before a read has ended", "registry", r.String())
		return nil
	default:
		return fmt.Errorf("%w: a call of the driver does not end although its context has; the driver is closed after it", ErrUnavailable)
	}
}

// leftBehind says which registrations Close could not deregister, and why.
type leftBehind struct {
	left map[*registration]error
	of   int
}

// maxNamed bounds how many registrations the text of a leftBehind names.
const maxNamed = 5

func (e *leftBehind) sorted() []*registration {
	return slices.SortedFunc(maps.Keys(e.left), func(a, b *registration) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.id, b.id))
	})
}

// Error names a few of the registrations, and the reason of the first.
func (e *leftBehind) Error() string {
	all := e.sorted()
	var names []string
	for _, g := range all[:min(len(all), maxNamed)] {
		names = append(names, g.service+"/"+g.id)
	}
	more := ""
	if len(all) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(all)-maxNamed)
	}
	return fmt.Sprintf("%d of %d registrations could not be deregistered and stay until they expire: %s%s: %v",
		len(all), e.of, strings.Join(names, ", "), more, e.left[all[0]])
}

// Unwrap returns every reason.
func (e *leftBehind) Unwrap() []error {
	var errs []error
	for _, g := range e.sorted() {
		errs = append(errs, e.left[g])
	}
	return errs
}

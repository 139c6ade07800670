package consul

import (
	"context"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/sleep"
)

// nodeWatch notifies the leases at one agent when the catalog has other services of the agent's node than before. One waiting read does so for
// all of them. A restored snapshot ends that read at once.
type nodeWatch struct {
	mu      sync.Mutex
	leases  int                // how many want to be notified
	node    string             // the node whose services are watched
	stop    context.CancelFunc // ends the watch; nil while there is none
	changed chan struct{}      // closed, and replaced, with each change
	at      time.Time          // of the last change
}

// join notes that a lease wants to be notified.
func (w *nodeWatch) join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leases++
}

// leave undoes join. The last lease ends the watch.
func (w *nodeWatch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases--; w.leases == 0 && w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// next returns a channel that the next change closes, and the time of the last one.
func (w *nodeWatch) next() (changed <-chan struct{}, last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed, w.at
}

// notify notes a change.
func (w *nodeWatch) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed, w.at = make(chan struct{}), time.Now()
}

// watchNode watches the services of node until the last lease at the agent has left, unless that is done already.
func (d *driver) watchNode(node string) {
	w := &d.catalog().watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases == 0 || w.stop != nil && w.node == node {
		return
	}
	if w.stop != nil {
		w.stop()
	}
	stopped, stop := context.WithCancel(context.Background())
	w.node, w.stop = node, stop
	d.agents.Go(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(stopped, cancel)()
		d.followNode(ctx, node)
	})
}

// followNode notifies the leases of changes of the services of node until ctx ends: at once of a restored snapshot, and less and less often of
// other changes while they go on, since a read of the catalog costs more than to see that it changes.
func (d *driver) followNode(ctx context.Context, node string) {
	longest := max(d.settings.Wait/2, catalogAgain)
	var index, seen uint64
	var notified time.Time
	quiet := catalogAgain // after a notification, how long the leases are not notified of another change
	again := catalogAgain // the pause after the next sign of a restored snapshot, which a proxy may cause all the time
	for {
		now, early, err := d.awaitNode(ctx, node, index)
		pause := catalogAgain
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = longest
		case seen != 0 && (now < seen || early && now == seen): // a read whose store was replaced ends so
			d.catalog().watch.notify()
			pause, again = again, min(2*again, longest)
		case seen != 0 && now > seen && time.Since(notified) > quiet:
			d.catalog().watch.notify()
			quiet = min(2*quiet, longest)
			if time.Since(notified) > longest {
				quiet = catalogAgain
			}
			notified = time.Now()
		case now == seen || seen == 0:
			if index > 0 {
				again = catalogAgain
			}
			index, seen = now, now
			continue
		}
		if err == nil {
			seen = now
		}
		// The next read does not wait from there: a store that was replaced meanwhile may not get as far for hours.
		if index = 0; !sleep.For(ctx, pause) {
			return
		}
	}
}

// awaitNode returns the index of the services of node when it is above index, or when a wait has passed. early reports that it has not passed.
func (d *driver) awaitNode(ctx context.Context, node string, index uint64) (now uint64, early bool, err error) {
	slot, err := d.agent.Limiter.Acquire(ctx, agent.CatalogWatch)
	if err != nil {
		return 0, false, err
	}
	wait, limit := d.settings.Wait, d.settings.Timeout
	if index > 0 {
		limit = waitLimit(wait)
	}
	began := time.Now()
	err = d.callAt(ctx, slot, "watch the entries of node "+node, limit, func(ctx context.Context) error {
		o := d.agent.Options(ctx)
		o.WaitIndex, o.WaitTime = index, wait
		o.Filter = `ID == ""` // of no service: only the index matters
		_, meta, err := d.agent.Client.Catalog().NodeServiceList(node, o)
		if err == nil {
			now = meta.LastIndex
		}
		return err
	})
	if err == nil && now <= 1 {
		err = d.agent.Unavailable("watch the entries of node "+node, "the answer has no index")
	}
	return now, err == nil && index > 0 && time.Since(began) < wait, err
}

package choose

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// minPause and maxPause bound the pause before a watch that ended is started again.
const (
	minPause = 100 * time.Millisecond
	maxPause = 4 * time.Second
)

// Follow calls receive with what d reports about q, until ctx ends or watching can never succeed. A watch that ends otherwise is started
// again. Follow asks for the next set after the pause that receive returns, so it skips sets that came meanwhile.
func Follow(ctx context.Context, d registry.Discovery, q registry.Query, receive func([]*registry.Instance, error) (pause time.Duration)) {
	again(ctx, func() (answered, over bool) { return follow(ctx, d, q, receive) })
}

// again calls watch until it reports that watching is over, with a pause in between that grows until the registry answers.
func again(ctx context.Context, watch func() (answered, over bool)) {
	for pause := time.Duration(0); ; {
		answered, over := watch()
		if over {
			return
		}
		if answered {
			pause = 0
		}
		pause = min(max(2*pause, minPause), maxPause)
		sleep.For(ctx, pause/2+rand.N(pause/2)) // at random, so that the clients of one registry do not all watch again at once
	}
}

// follow follows one watch. It reports whether the registry answered, and whether watching is over because ctx has ended or the watch can
// never succeed.
func follow(ctx context.Context, d registry.Discovery, q registry.Query, receive func([]*registry.Instance, error) time.Duration) (answered, over bool) {
	var last error
	for set, err := range d.Watch(ctx, q) {
		if ctx.Err() != nil {
			return answered, true
		}
		answered, last = answered || err == nil, err
		if pause := receive(set, err); pause > 0 {
			sleep.For(ctx, pause)
		}
	}
	if ctx.Err() != nil || errors.Is(last, registry.ErrClosed) || q.Validate() != nil {
		return answered, true
	}
	if !answered && last == nil { // without an error, calls would wait
		receive(nil, errors.New("the watch ended"))
	}
	return answered, false
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// witness watches a service and checks each pair that the watch yields.
type witness struct {
	service string

	mu         sync.Mutex
	steady     []string                     // IDs that are registered throughout
	gone       map[string]bool              // IDs that were deregistered, and that a pair has been without since
	last       map[string]registry.Instance // the newest set, by ID
	err        error                        // beside it
	known      bool                         // there has been a set
	mayMiss    int                          // how many steady instances a set without an error may lack now
	unsettled  time.Time                    // when the newest pair came that lacked a steady instance or had an error
	pairs      int
	violations []string
	changed    chan struct{} // closed, and replaced, with each pair
}

func newWitness(service string, steady []string) *witness {
	return &witness{service: service, steady: steady, gone: map[string]bool{}, changed: make(chan struct{})}
}

// watch observes the pairs of d until ctx ends.
func (w *witness) watch(ctx context.Context, d registry.Discovery) {
	for set, err := range d.Watch(ctx, registry.Query{Service: w.service, AnyStatus: true}) {
		w.observe(set, err)
	}
}

// observe checks a pair of instances of any status. An instance that does not pass counts as missing, as for a client.
func (w *witness) observe(set []*registry.Instance, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pairs++
	w.last, w.err = make(map[string]registry.Instance, len(set)), err
	status := map[string]registry.Status{}
	for _, in := range set {
		status[in.ID] = in.Status
		if in.Status != registry.Passing {
			continue
		}
		w.last[in.ID] = *in
		if w.gone[in.ID] {
			w.violate("%s is deregistered, and is back", in.ID)
		}
	}
	switch {
	case w.known && len(w.last) == 0:
		w.violate("the set is empty beside the error %v", err)
	case w.known && err == nil:
		if missing := w.missing(); len(missing) > w.mayMiss {
			for i, id := range missing {
				if s, ok := status[id]; ok {
					missing[i] += fmt.Sprintf(" (%v)", s)
				}
			}
			w.violate("the set lacks %s without an error", strings.Join(missing, ", "))
		}
	}
	if err != nil || len(w.missing()) > 0 {
		w.unsettled = time.Now()
	} else {
		w.known = true
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// missing returns the steady instances that the newest set lacks. w.mu is locked.
func (w *witness) missing() []string {
	return slices.DeleteFunc(slices.Clone(w.steady), func(id string) bool { _, ok := w.last[id]; return ok })
}

// allow sets how many steady instances a set without an error may lack from now on.
func (w *witness) allow(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mayMiss = n
}

// lastUnsettled returns when the newest pair came that lacked a steady instance or had an error.
func (w *witness) lastUnsettled() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unsettled
}

func (w *witness) violate(format string, a ...any) {
	w.violations = append(w.violations, time.Now().Format("15:04:05.000 ")+w.service+": "+fmt.Sprintf(format, a...))
}

// until blocks until ok is true for the newest set and its error.
func (w *witness) until(ctx context.Context, ok func(set map[string]registry.Instance, err error) bool) error {
	for {
		w.mu.Lock()
		done, changed, n, err := w.known && ok(w.last, w.err), w.changed, len(w.last), w.err
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: the watch has %d instances and the error %v", w.service, n, err)
		}
	}
}

// settled blocks until the set has the steady instances and no other, without an error, and content says yes to each.
func (w *witness) settled(ctx context.Context, content func(registry.Instance) bool) error {
	return w.until(ctx, func(set map[string]registry.Instance, err error) bool {
		if err != nil || len(set) != len(w.steady) {
			return false
		}
		for _, id := range w.steady {
			if in, ok := set[id]; !ok || !content(in) {
				return false
			}
		}
		return true
	})
}

// left notes that an ID was deregistered, and blocks until a set is without it. From then on it must not come back.
func (w *witness) left(ctx context.Context, id string) error {
	err := w.until(ctx, func(set map[string]registry.Instance, _ error) bool { _, ok := set[id]; return !ok })
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.gone[id] = true
	}
	return err
}

// take returns the number of pairs and the violations since the last call.
func (w *witness) take() (pairs int, violations []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pairs, violations = w.pairs, w.violations
	w.pairs, w.violations = 0, nil
	return pairs, violations
}

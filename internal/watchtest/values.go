package watchtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// ValuePair is what a watch of a value yields at one time.
type ValuePair struct {
	Value *registry.Value
	Err   error
}

// String returns the beginning of the data, and the error.
func (p ValuePair) String() string {
	if p.Value == nil {
		return fmt.Sprintf("[absent] %v", p.Err)
	}
	return fmt.Sprintf("[%.20q] %v", p.Value.Data, p.Err)
}

// IsAbsent reports whether the pair is a confirmed absence: a nil value without an error, or as the last good value.
func (p ValuePair) IsAbsent() bool {
	return p.Value == nil && (p.Err == nil || errors.As(p.Err, new(*registry.StaleError)))
}

// ValueWatcher collects what a watch of a value yields.
type ValueWatcher struct {
	t testing.TB

	mu    sync.Mutex
	pairs []ValuePair
}

// WatchValue starts a watch of a value in a goroutine. It ends with the test.
func WatchValue(t testing.TB, r *registry.Registry, key string) *ValueWatcher {
	ctx, cancel := context.WithCancel(context.Background())
	w, done := &ValueWatcher{t: t}, make(chan struct{})
	go func() {
		defer close(done)
		for v, err := range r.WatchValue(ctx, key) {
			w.mu.Lock()
			w.pairs = append(w.pairs, ValuePair{v, err})
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// All returns every pair so far.
func (w *ValueWatcher) All() []ValuePair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pairs)
}

// Until blocks until the newest pair is as wanted, and returns it. After [Timeout] it fails the test.
func (w *ValueWatcher) Until(what string, ok func(ValuePair) bool) (last ValuePair) {
	w.t.Helper()
	Eventually(w.t, what, func() bool {
		all := w.All()
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		return len(all) > 0 && ok(last)
	})
	return last
}

// UntilData blocks until the newest pair has that data and no error.
func (w *ValueWatcher) UntilData(data string) ValuePair {
	w.t.Helper()
	return w.Until(fmt.Sprintf("the value %.20q", data), func(p ValuePair) bool {
		return p.Err == nil && p.Value != nil && string(p.Value.Data) == data
	})
}

// UntilStale blocks until the newest pair has that data beside an error of a kind.
func (w *ValueWatcher) UntilStale(data string, kind error) ValuePair {
	w.t.Helper()
	return w.Until(fmt.Sprintf("the last good value %.20q beside %v", data, kind), func(p ValuePair) bool {
		return p.Value != nil && string(p.Value.Data) == data && errors.Is(p.Err, kind) && errors.As(p.Err, new(*registry.StaleError))
	})
}

// UntilUnknown blocks until the newest pair has an error of a kind and no value, which is no absence.
func (w *ValueWatcher) UntilUnknown(kind error) ValuePair {
	w.t.Helper()
	return w.Until(fmt.Sprintf("no value beside %v", kind), func(p ValuePair) bool {
		return p.Value == nil && errors.Is(p.Err, kind) && !errors.As(p.Err, new(*registry.StaleError))
	})
}

// UntilAbsent blocks until the newest pair is an absence without an error.
func (w *ValueWatcher) UntilAbsent() {
	w.t.Helper()
	w.Until("the absence", func(p ValuePair) bool { return p.Value == nil && p.Err == nil })
}

// NeverAbsent reports an error for each pair that is an absence.
func (w *ValueWatcher) NeverAbsent() {
	w.t.Helper()
	for i, p := range w.All() {
		if p.IsAbsent() {
			w.t.Errorf("pair %d is %v, although the key was there", i, p)
		}
	}
}

// PutValue writes a value, and fails the test if that fails.
func PutValue(t testing.TB, r *registry.Registry, key, data string) *registry.Value {
	t.Helper()
	v, err := r.PutValue(Context(t), key, []byte(data), registry.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

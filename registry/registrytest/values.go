package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// values is about the key-value store. A backend whose PutValue returns ErrUnsupported has none: its cases are skipped, unless
// Config.Values is set.
var values = []promise{
	{
		name: "values: absence",
		why: "A watch of a key that the store does not have yields nil without an error, once and promptly. Only then may a program " +
			"take its defaults.",
		check: valueAbsence,
	},
	{
		name: "values: changes",
		why: "A watch of a value yields it, then each change, and then the absence, also if another client writes. The newest value always " +
			"arrives.",
		check: valueChanges,
	},
	{
		name:  "values: content",
		why:   "A value is any bytes, also none, up to 512 KiB, and comes back as it was written. An empty value is no absence.",
		check: valueContent,
	},
	{
		name: "values: conditions",
		why: "A write whose condition is not met returns ErrConflict and changes nothing, so that two clients that read, change and " +
			"write lose no change.",
		check: valueConditions,
	},
	{
		name: "values: neighbours",
		why: "Keys do not mix, even if a key is the beginning of another, differs in case alone, or looks like a service or an instance. " +
			"Values are no instances, and no services.",
		check: valueNeighbours,
	},
	{
		name:  "values: outage",
		needs: "Break",
		why: "In an outage a watch of a value keeps the last good value beside an error, and a first watch yields an error: a failed read must never " +
			"look like an absence. When it heals, a pair without an error follows, and later changes arrive.",
		check: valueOutage,
	},
	{
		name:  "values: one read",
		needs: "Calls",
		why:   "All watches of a key in a process share one read: a thousand readers of a flag cost the store no more than one reader.",
		check: valueOneRead,
	},
	{
		name: "values: source",
		why: "The first Next of a source returns the value at once, the next one blocks until it changes, and both end promptly with their " +
			"context. The Next after that returns the value at once again.",
		check: valueSource,
	},
}

// key returns a key that no other case uses. It is deleted at the end.
func (t *trial) key(r *registry.Registry, name string) string {
	t.Helper()
	key := t.name() + "/" + name
	err := r.DeleteValue(t.inTime(), key, registry.PutOptions{})
	switch {
	case errors.Is(err, registry.ErrUnsupported) && !t.Values:
		t.Skip("not run, since the backend has no values")
	case err != nil:
		t.Fatalf("DeleteValue of a key that does not exist: %v", err)
	}
	t.Cleanup(func() {
		if t.stuck != "" {
			return
		}
		if err := r.DeleteValue(t.inTime(), key, registry.PutOptions{}); err != nil && !errors.Is(err, registry.ErrClosed) {
			t.Errorf("DeleteValue: %v", err)
		}
	})
	return key
}

func (t *trial) put(r *registry.Registry, key, data string) *registry.Value {
	t.Helper()
	v, err := r.PutValue(t.inTime(), key, []byte(data), registry.PutOptions{})
	if err != nil || v == nil {
		t.Fatalf("PutValue(%s) returns %v, %v", key, v, err)
	}
	return v
}

// valueWatcher collects what a watch of a value yields.
type valueWatcher struct {
	t    *trial
	stop func()

	mu    sync.Mutex
	pairs []valuePair
}

type valuePair struct {
	value *registry.Value
	err   error
}

// String is for failures.
func (p valuePair) String() string {
	text := "absent"
	if p.value != nil {
		text = strconv.Quote(string(p.value.Data[:min(len(p.value.Data), 20)]))
	}
	if p.err != nil {
		text += " beside " + p.err.Error()
	}
	return text
}

// watchValue watches key until the end of the case.
func (t *trial) watchValue(r *registry.Registry, key string) *valueWatcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &valueWatcher{t: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v, err := range r.WatchValue(ctx, key) {
			w.mu.Lock()
			w.pairs = append(w.pairs, valuePair{v, err})
			w.mu.Unlock()
		}
	}()
	w.stop = func() {
		cancel()
		t.closes("a watch of a value whose context has ended", done)
	}
	t.Cleanup(w.stop)
	return w
}

func (w *valueWatcher) all() []valuePair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pairs[:len(w.pairs):len(w.pairs)]
}

// until waits until the last pair is as wanted, and returns it.
func (w *valueWatcher) until(what string, wanted func(valuePair) bool) (last valuePair) {
	w.t.Helper()
	w.t.eventually("a watch of a value yields "+what, func() bool {
		all := w.all()
		if len(all) == 0 {
			return false
		}
		last = all[len(all)-1]
		return wanted(last)
	})
	return last
}

// current tells whether a pair has that data and no error.
func current(data string) func(valuePair) bool {
	return func(p valuePair) bool { return p.err == nil && p.value != nil && string(p.value.Data) == data }
}

func absent(p valuePair) bool { return p.err == nil && p.value == nil }

func valueAbsence(t *trial) {
	r := t.client()
	key := t.key(r, "absent")
	w := t.watchValue(r, key)
	w.until("the absence", absent)
	if n := len(w.all()); n != 1 {
		t.Errorf("%d pairs for a key that does not exist, want 1", n)
	}
	if err := r.DeleteValue(t.inTime(), key, registry.PutOptions{}); err != nil {
		t.Errorf("DeleteValue of a key that does not exist: %v", err)
	}
}

func valueChanges(t *trial) {
	r, other := t.client(), t.client()
	key := t.key(other, "changes")
	before := t.put(other, key, "0")
	w, own := t.watchValue(r, key), t.watchValue(other, key)
	w.until("the value", current("0"))
	for i := range 20 {
		data := fmt.Sprint(i + 1)
		v := t.put(other, key, data)
		if v.Key != key || string(v.Data) != data || v.Revision <= before.Revision {
			t.Errorf("PutValue returns %+v after revision %d", v, before.Revision)
		}
		before = v
	}
	for _, w := range []*valueWatcher{w, own} {
		last := w.until("the newest value", current("20"))
		if last.value.Key != key || last.value.Revision != before.Revision {
			t.Errorf("the watch yields key %q with revision %d; PutValue returned %q with %d", last.value.Key, last.value.Revision, key, before.Revision)
		}
	}
	seen := -1
	for _, p := range w.all() {
		n, err := strconv.Atoi(string(p.value.Data))
		if err != nil || n <= seen {
			t.Errorf("the watch yields %v after %d", p, seen)
		}
		seen = n
	}
	if err := other.DeleteValue(t.inTime(), key, registry.PutOptions{}); err != nil {
		t.Errorf("DeleteValue: %v", err)
	}
	w.until("the absence", absent)
	t.put(r, key, "again")
	w.until("the value that is back", current("again"))
}

func valueContent(t *trial) {
	r := t.client()
	key := t.key(r, "content")
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, data := range map[string]string{
		"empty": "", "every byte": string(every), "JSON": `{"a": "<&>\u2028é"}` + "\n", "largest": strings.Repeat("0123456789abcdef", registry.MaxValueSize/16),
	} {
		v := t.put(r, key, data)
		if v.Data == nil || string(v.Data) != data {
			t.Errorf("%s: PutValue returns %d other bytes", name, len(v.Data))
		}
		w := t.watchValue(t.client(), key)
		if last := w.until("the value: "+name, current(data)); last.value.Data == nil {
			t.Errorf("%s: the data is nil", name)
		}
		w.stop()
	}
}

func valueConditions(t *trial) {
	r := t.client()
	key := t.key(r, "conditions")
	write := func(r *registry.Registry, data string, o registry.PutOptions) (*registry.Value, error) {
		return r.PutValue(t.inTime(), key, []byte(data), o)
	}
	if _, err := write(r, "0", registry.PutOptions{IfRevision: 7}); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("IfRevision without a value: %v, want ErrConflict", err)
	}
	first, err := write(r, "0", registry.PutOptions{IfAbsent: true})
	if err != nil {
		t.Fatalf("IfAbsent without a value: %v", err)
	}
	_, err = write(r, "x", registry.PutOptions{IfAbsent: true})
	t.wantError(err, "put value", registry.ErrConflict)

	const clients, each = 4, 5
	var work sync.WaitGroup
	for range clients {
		r := t.client()
		work.Go(func() {
			for range each {
				t.increment(r, key)
			}
		})
	}
	work.Wait()
	w := t.watchValue(t.client(), key)
	w.until("the sum of all increments", current(fmt.Sprint(clients*each)))

	_, err = write(r, "x", registry.PutOptions{IfRevision: first.Revision})
	t.wantError(err, "put value", registry.ErrConflict)
	err = r.DeleteValue(t.inTime(), key, registry.PutOptions{IfRevision: first.Revision})
	t.wantError(err, "delete value", registry.ErrConflict)
	last := w.until("the value as it was", current(fmt.Sprint(clients*each)))
	if err := r.DeleteValue(t.inTime(), key, registry.PutOptions{IfRevision: last.value.Revision}); err != nil {
		t.Errorf("DeleteValue of the newest revision: %v", err)
	}
	w.until("the absence", absent)
}

// increment reads a number and writes the next one, until no other client has written in between.
func (t *trial) increment(r *registry.Registry, key string) {
	for v, err := range r.WatchValue(t.inTime(), key) {
		if err != nil || v == nil {
			t.Errorf("the watch yields %v, %v", v, err)
			return
		}
		n, err := strconv.Atoi(string(v.Data))
		if err != nil {
			t.Error(err)
			return
		}
		_, err = r.PutValue(t.inTime(), key, []byte(fmt.Sprint(n+1)), registry.PutOptions{IfRevision: v.Revision})
		switch {
		case err == nil:
			return
		case !errors.Is(err, registry.ErrConflict):
			t.Errorf("PutValue: %v", err)
			return
		}
	}
	t.Errorf("no increment in time")
}

func valueNeighbours(t *trial) {
	r := t.client()
	t.key(r, "other")
	in := t.instance("a")
	w := t.watch(t.client(), t.all())
	if t.Write == nil {
		t.register(r, in)
		w.until("the instance", exactly("a"))
	}
	names := []string{"a", "a/b", "a/bc", "a-b", "A", "a.b", "a:b", "_a"}
	var keys []string
	for _, name := range names {
		keys = append(keys, t.key(r, name))
	}
	for i, key := range keys {
		t.put(r, key, names[i])
	}
	for i, key := range keys {
		t.watchValue(r, key).until("its own value", current(names[i]))
	}
	if err := r.DeleteValue(t.inTime(), keys[0], registry.PutOptions{}); err != nil {
		t.Errorf("DeleteValue: %v", err)
	}
	for i, key := range keys[1:] {
		t.watchValue(t.client(), key).until("its own value", current(names[i+1]))
	}
	services, err := r.Services(t.inTime())
	if err != nil {
		t.Fatalf("Services: %v", err)
	}
	for _, s := range services {
		if strings.Contains(s, t.name()) && s != t.name() {
			t.Errorf("Services has %q, which is a value", s)
		}
	}
	if t.Write == nil {
		t.stir(r, w, 1)
		if set := t.lookup(t.all()); len(set) == 0 {
			t.Error("the instance is gone")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pairs {
		if p.err != nil {
			t.Errorf("the watch of the service yields %v", p.err)
		}
	}
}

func valueOutage(t *trial) {
	r, other := t.client(), t.client()
	key, unread := t.key(r, "known"), t.key(r, "unread")
	t.put(r, key, "1")
	t.put(r, unread, "1")
	w := t.watchValue(r, key)
	w.until("the value", current("1"))
	heal := t.outage()
	w.until("the last good value beside a StaleError", func(p valuePair) bool {
		return p.err != nil && errors.As(p.err, new(*registry.StaleError)) && p.value != nil && string(p.value.Data) == "1"
	})
	first := t.watchValue(other, unread)
	first.until("an error", func(p valuePair) bool { return p.err != nil })
	ctx, cancel := context.WithTimeout(context.Background(), t.Patience)
	defer cancel()
	if _, err := r.PutValue(ctx, key, []byte("2"), registry.PutOptions{}); err == nil {
		t.Error("PutValue succeeds in an outage")
	}
	heal()
	w.until("the value without an error", func(p valuePair) bool { return p.err == nil && p.value != nil })
	first.until("the value", current("1"))
	for _, w := range []*valueWatcher{w, first} {
		for _, p := range w.all() {
			if absent(p) || p.value == nil && errors.As(p.err, new(*registry.StaleError)) {
				t.Errorf("the watch yields %v, although the key was there all the time", p)
			}
		}
	}
	t.put(other, key, "3")
	w.until("a later value", current("3"))
}

func valueOneRead(t *trial) {
	r := t.client()
	key := t.key(r, "shared")
	t.put(r, key, "1")
	t.watchValue(r, key).until("the value", current("1"))
	before := t.Calls(t.T)
	for range 100 {
		t.watchValue(r, key).until("the value", current("1"))
	}
	if n := t.Calls(t.T) - before; n > 10 {
		t.Errorf("%d calls for 100 watches of a key that is watched already", n)
	}
}

func valueSource(t *trial) {
	if t.NewDriver == nil { // a backend that can only find need not have it
		t.Skip("not run, since Config.NewDriver is nil")
	}
	r := t.client()
	key := t.key(r, "source")
	written := t.put(r, key, "1")
	src := t.driver().WatchValue(key)
	defer src.Close()
	next := func(want string) {
		t.Helper()
		v, err := src.Next(t.inTime())
		if err != nil || v == nil || !bytes.Equal(v.Data, []byte(want)) {
			t.Fatalf("Next returns %v, want %q", valuePair{v, err}, want)
		}
	}
	next("1")
	v, err := src.Next(t.moment())
	for err == nil && v != nil && v.Revision == written.Revision { // a source may return the same again
		v, err = src.Next(t.moment())
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a Next whose context ends returns %v", valuePair{v, err})
	}
	next("1")
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for {
			if v, err := src.Next(t.inTime()); err != nil || v == nil || string(v.Data) == "2" {
				if err != nil || v == nil {
					t.Errorf("Next returns %v", valuePair{v, err})
				}
				return
			}
		}
	}()
	t.put(r, key, "2")
	t.closes("the Next that waits for a change", changed)
}

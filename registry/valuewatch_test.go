package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

const key = "rollcall/config/web"

var quiet = slog.New(slog.DiscardHandler)

// valueWatch collects what a watch of a value yields.
type valueWatch struct {
	mu    sync.Mutex
	pairs []valuePair
	ended bool
}

type valuePair struct {
	value *registry.Value
	err   error
}

// String returns the data, or absent or unknown without a value, and with a ! if there is an error.
func (p valuePair) String() string {
	text := "absent"
	stale := errors.As(p.err, new(*registry.StaleError))
	switch {
	case p.value != nil:
		text = string(p.value.Data)
	case p.err != nil && !stale:
		text = "unknown"
	}
	if p.err != nil {
		text += "!"
	}
	return text
}

// watchValue watches key until the test ends or stop is called.
func watchValue(t *testing.T, r *registry.Registry, key string) (w *valueWatch, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	w = new(valueWatch)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v, err := range r.WatchValue(ctx, key) {
			w.mu.Lock()
			w.pairs = append(w.pairs, valuePair{v, err})
			w.mu.Unlock()
		}
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return w, stop
}

// want compares what was yielded so far, once all is quiet.
func (w *valueWatch) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, p := range w.pairs {
		got = append(got, p.String())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("yielded %q, want %q; the last error is %v", got, want, w.pairs[len(w.pairs)-1].err)
	}
}

func (w *valueWatch) lastError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pairs[len(w.pairs)-1].err
}

// newValueStore returns two clients of one store.
func newValueStore(t *testing.T, o registry.Options) (r, other *memory.Registry) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	r, err := memory.NewWith(memory.Config{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	other = r.Client()
	t.Cleanup(func() { r.Close(); other.Close() })
	return r, other
}

func put(t *testing.T, r *memory.Registry, data string) *registry.Value {
	t.Helper()
	v, err := r.PutValue(t.Context(), key, []byte(data), registry.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func del(t *testing.T, r *memory.Registry) {
	t.Helper()
	if err := r.DeleteValue(t.Context(), key, registry.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestWatchValue_YieldsEachChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{})
		w, stop := watchValue(t, r.Registry, key)
		w.want(t, "absent")
		put(t, other, "1")
		time.Sleep(time.Second)
		put(t, r, "2")
		time.Sleep(time.Second)
		del(t, other)
		time.Sleep(time.Second)
		put(t, other, "")
		time.Sleep(time.Second)
		w.want(t, "absent", "1", "2", "absent", "")
		if v := w.pairs[4].value; v.Data == nil || v.Key != key {
			t.Errorf("the empty value is %#v", v)
		}
		stop()
	})
}

func TestWatchValue_KeepsTheLastGoodValue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, other := newValueStore(t, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		put(t, other, "1")
		w, stop := watchValue(t, r.Registry, key)
		w.want(t, "1")
		r.Fail(errors.New("connection refused"))
		time.Sleep(30 * time.Second)
		w.want(t, "1", "1!")
		var stale *registry.StaleError
		if !errors.As(w.lastError(), &stale) || stale.Origin != registry.FromRegistry || time.Since(stale.Since) < 29*time.Second {
			t.Errorf("the error is %v with %+v", w.lastError(), stale)
		}
		if text := w.lastError().Error(); !strings.HasPrefix(text, `rollcall: watch value "rollcall/config/web": unavailable: connection refused`) {
			t.Errorf("the error is %s", text)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "keeping last good value") {
			t.Errorf("an outage of 30 s is logged as\n%s", log.String())
		}
		stop()

		time.Sleep(time.Hour) // the watch ends, and what it knew is remembered
		again, stop := watchValue(t, r.Registry, key)
		time.Sleep(5 * time.Second)
		again.want(t, "1!")
		if errors.As(again.lastError(), &stale); stale.Origin != registry.FromMemory {
			t.Errorf("the origin is %v", stale.Origin)
		}
		put(t, other, "2")
		r.Heal()
		time.Sleep(5 * time.Second)
		again.want(t, "1!", "2")
		stop()
	})
}

func TestWatchValue_FailedReadIsNoAbsence(t *testing.T) {
	for name, fault := range map[string]func(*memory.Registry){
		"refuses": func(r *memory.Registry) { r.Fail(registry.ErrDenied) },
		"fails":   func(r *memory.Registry) { r.Fail(errors.New("EOF")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r, other := newValueStore(t, registry.Options{})
				fault(r)
				w, stop := watchValue(t, r.Registry, key)
				time.Sleep(10 * time.Second)
				w.want(t, "unknown!")
				put(t, other, "1")
				r.Heal()
				time.Sleep(10 * time.Second)
				w.want(t, "unknown!", "1")
				stop()
			})
		})
	}
}

func TestWatchValue_WithholdsAnAbsenceAfterAnOutage(t *testing.T) {
	outage := func(t *testing.T, r *memory.Registry) {
		r.Fail(errors.New("connection refused"))
		time.Sleep(2 * time.Second)
	}
	for name, c := range map[string]struct {
		options registry.Options
		play    func(t *testing.T, r, other *memory.Registry)
		want    []string
	}{
		"for OutageGrace": {play: func(t *testing.T, r, other *memory.Registry) {
			outage(t, r)
			del(t, other)
			r.Heal()
			time.Sleep(registry.DefaultOutageGrace + 2*time.Second)
		}, want: []string{"1", "1!", "1!", "absent"}},
		"until it is back": {play: func(t *testing.T, r, other *memory.Registry) {
			outage(t, r)
			del(t, other)
			r.Heal()
			time.Sleep(5 * time.Second)
			put(t, other, "1")
			time.Sleep(time.Hour)
		}, want: []string{"1", "1!", "1!", "1"}},
		"but not a later absence": {play: func(t *testing.T, r, other *memory.Registry) {
			outage(t, r)
			r.Heal()
			time.Sleep(10 * time.Second)
			del(t, other)
			time.Sleep(time.Second)
		}, want: []string{"1", "1!", "1", "absent"}},
		"but not its own": {play: func(t *testing.T, r, other *memory.Registry) {
			outage(t, r)
			r.Heal()
			time.Sleep(1500 * time.Millisecond)
			del(t, r)
			time.Sleep(500 * time.Millisecond)
		}, want: []string{"1", "1!", "1", "absent"}},
		"not with a negative OutageGrace": {options: registry.Options{OutageGrace: -1}, play: func(t *testing.T, r, other *memory.Registry) {
			outage(t, r)
			del(t, other)
			r.Heal()
			time.Sleep(2 * time.Second)
		}, want: []string{"1", "1!", "absent"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r, other := newValueStore(t, c.options)
				put(t, other, "1")
				w, stop := watchValue(t, r.Registry, key)
				w.want(t, "1")
				c.play(t, r, other)
				w.want(t, c.want...)
				stop()
			})
		})
	}
}

// A registry that flaps must not have a deleted value kept for ever.
func TestWatchValue_PublishesAnAbsenceOfAFlappingRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{})
		put(t, other, "1")
		w, stop := watchValue(t, r.Registry, key)
		w.want(t, "1")
		r.Fail(errors.New("down"))
		del(t, other)
		for range 10 {
			time.Sleep(time.Second)
			r.Heal()
			time.Sleep(3 * time.Second)
			r.Fail(errors.New("down"))
		}
		synctest.Wait()
		w.mu.Lock()
		last := w.pairs[len(w.pairs)-1]
		w.mu.Unlock()
		if last.String() != "absent!" {
			t.Errorf("after 40 s of flapping the watch yields %v", last)
		}
		stop()
	})
}

func TestWatchValue_SharesOneRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{})
		put(t, other, "1")
		before := r.Calls()
		var all []*valueWatch
		for range 1000 {
			w, _ := watchValue(t, r.Registry, key)
			all = append(all, w)
		}
		for _, w := range all {
			w.want(t, "1")
		}
		put(t, other, "2")
		time.Sleep(time.Second)
		for _, w := range all {
			w.want(t, "1", "2")
		}
		if n := r.Calls() - before; n > 3 {
			t.Errorf("%d calls for 1,000 watches of one key and one change", n)
		}
	})
}

// If the value cannot be read, readers get the value or the absence that an earlier process has saved.
func TestWatchValue_LoadsTheSavedValue(t *testing.T) {
	for name, c := range map[string]struct {
		write func(t *testing.T, other *memory.Registry)
		spoil func(content []byte) []byte
		want  string
	}{
		"a value":          {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, want: "1!"},
		"an empty value":   {write: func(t *testing.T, o *memory.Registry) { put(t, o, "") }, want: "!"},
		"an absence":       {write: func(*testing.T, *memory.Registry) {}, want: "absent!"},
		"a torn file":      {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, spoil: func(b []byte) []byte { return b[:len(b)/2] }, want: "unknown!"},
		"another key":      {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, spoil: func(b []byte) []byte { return bytes.Replace(b, []byte(key), []byte("other"), 1) }, want: "unknown!"},
		"no data":          {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, spoil: func(b []byte) []byte { return bytes.Replace(b, []byte(`"data"`), []byte(`"date"`), 1) }, want: "unknown!"},
		"a huge file":      {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, spoil: func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 1<<20)...) }, want: "unknown!"},
		"a format to come": {write: func(t *testing.T, o *memory.Registry) { put(t, o, "1") }, spoil: func(b []byte) []byte { return bytes.Replace(b, []byte(`"format":1`), []byte(`"format":2`), 1) }, want: "unknown!"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				first, other := newValueStore(t, registry.Options{CacheDir: dir})
				c.write(t, other)
				_, stop := watchValue(t, first.Registry, key)
				synctest.Wait()
				stop()
				first.Close()
				files, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(files) != 1 {
					t.Fatalf("%v files, %v", files, err)
				}
				if c.spoil != nil {
					content, err := os.ReadFile(files[0])
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(files[0], c.spoil(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				second := other.Client()
				defer second.Close()
				second.Fail(errors.New("down"))
				w, stop := watchValue(t, second.Registry, key)
				time.Sleep(5 * time.Second)
				w.want(t, c.want)
				stop()
			})
		})
	}
}

// A registry that accepts a connection and never answers must not keep readers from what is saved.
func TestWatchValue_OffersTheSavedValueIfNothingAnswers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{CacheDir: t.TempDir()})
		put(t, other, "1")
		_, stop := watchValue(t, r.Registry, key)
		synctest.Wait()
		stop()
		second := r.Client()
		defer second.Close()
		second.Hang()
		w, stop := watchValue(t, second.Registry, key)
		time.Sleep(2 * time.Second)
		w.want(t, "1!")
		stop()
	})
}

func TestWatchValue_BeginsWithItsOwnWrite(t *testing.T) {
	r, _ := newValueStore(t, registry.Options{})
	for i := range 200 {
		data := fmt.Sprint(i)
		put(t, r, data)
		for v, err := range r.WatchValue(t.Context(), key) {
			if err != nil || v == nil || string(v.Data) != data {
				t.Fatalf("after %s was put, the watch begins with %v, %v", data, v, err)
			}
			break
		}
		if i%10 == 0 {
			del(t, r)
			for v, err := range r.WatchValue(t.Context(), key) {
				if v != nil || err != nil {
					t.Fatalf("after a deletion the watch begins with %v, %v", v, err)
				}
				break
			}
		}
	}
}

// 512 KiB cost as much as 2,000 instances, so they are read about four times a second.
func TestWatchValue_IsPacedBySize(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{CacheDir: t.TempDir()})
		w, stop := watchValue(t, r.Registry, key)
		const seconds = 5
		large := strings.Repeat("x", registry.MaxValueSize-4)
		for i := range 100 * seconds {
			put(t, other, fmt.Sprintf("%4d%s", i, large))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		w.mu.Lock()
		n, last := len(w.pairs), w.pairs[len(w.pairs)-1].value
		w.mu.Unlock()
		if n > 5*seconds {
			t.Errorf("%d values in %d s", n, seconds)
		}
		if got := strings.TrimSpace(string(last.Data[:4])); got != fmt.Sprint(100*seconds-1) {
			t.Errorf("the last value is number %s", got)
		}
		stop()
	})
}

func TestWatchValue_WithoutValues(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		w, stop := watchValue(t, r, key)
		time.Sleep(time.Hour)
		w.want(t, "unknown!")
		if !errors.Is(w.lastError(), registry.ErrUnsupported) {
			t.Errorf("the error is %v", w.lastError())
		}
		stop()
		if _, err := r.PutValue(t.Context(), key, nil, registry.PutOptions{}); !errors.Is(err, registry.ErrUnsupported) {
			t.Errorf("PutValue returns %v", err)
		}
		if err := r.DeleteValue(t.Context(), key, registry.PutOptions{}); !errors.Is(err, registry.ErrUnsupported) {
			t.Errorf("DeleteValue returns %v", err)
		}
	})
}

func TestWatchValue_EndsWithClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{})
		put(t, other, "1")
		w, _ := watchValue(t, r.Registry, key)
		w.want(t, "1")
		r.Close()
		w.want(t, "1", "1!")
		if !w.ended || !errors.Is(w.lastError(), registry.ErrClosed) {
			t.Errorf("ended: %v, with %v", w.ended, w.lastError())
		}
		for _, err := range r.WatchValue(t.Context(), key) {
			if !errors.Is(err, registry.ErrClosed) {
				t.Errorf("a watch after Close yields %v", err)
			}
		}
		if _, err := r.PutValue(t.Context(), key, nil, registry.PutOptions{}); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("PutValue returns %v", err)
		}
	})
}

// Values and sets share the bound of what lingers.
func TestWatchValue_LingersBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, _ := newValueStore(t, registry.Options{})
		for i := range 2 * registry.MaxLingering {
			for range r.WatchValue(t.Context(), fmt.Sprintf("key/%d", i)) {
				break
			}
		}
		before := r.Calls()
		for i := registry.MaxLingering; i < 2*registry.MaxLingering; i++ {
			for range r.WatchValue(t.Context(), fmt.Sprintf("key/%d", i)) {
				break
			}
		}
		if n := r.Calls() - before; n != 0 {
			t.Errorf("%d calls for keys whose watches linger", n)
		}
		for range r.WatchValue(t.Context(), "key/0") {
			break
		}
		if n := r.Calls() - before; n == 0 {
			t.Error("no call for a key whose watch was the first to end")
		}
	})
}

// A deletion that failed, or that a put has followed, says nothing about an absence after an outage.
func TestWatchValue_WithholdsAnAbsenceAfterADeletionThatDidNotLast(t *testing.T) {
	for name, c := range map[string]struct {
		play func(t *testing.T, r *memory.Registry)
		want []string
	}{
		"conflict": {func(t *testing.T, r *memory.Registry) {
			if err := r.DeleteValue(t.Context(), key, registry.PutOptions{IfRevision: 99}); !errors.Is(err, registry.ErrConflict) {
				t.Errorf("DeleteValue returns %v", err)
			}
		}, []string{"1", "1!", "1!"}},
		"outage": {func(t *testing.T, r *memory.Registry) {
			r.Fail(errors.New("connection refused"))
			if err := r.DeleteValue(t.Context(), key, registry.PutOptions{}); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("DeleteValue returns %v", err)
			}
			time.Sleep(time.Second)
			r.Heal()
			time.Sleep(time.Hour)
		}, []string{"1", "1!", "1", "1!", "1!"}},
		"put again": {func(t *testing.T, r *memory.Registry) {
			del(t, r)
			put(t, r, "2")
			time.Sleep(time.Second)
		}, []string{"1", "2", "2!", "2!"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r, other := newValueStore(t, registry.Options{})
				put(t, other, "1")
				w, stop := watchValue(t, r.Registry, key)
				w.want(t, "1")
				c.play(t, r)
				r.Fail(errors.New("connection refused"))
				time.Sleep(2 * time.Second)
				del(t, other)
				r.Heal()
				time.Sleep(2 * time.Second)
				w.want(t, c.want...)
				stop()
			})
		})
	}
}

// The store does not report an absence again, so the deletion itself ends the grace period.
func TestDeleteValue_PublishesAnAbsenceThatIsWithheld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, other := newValueStore(t, registry.Options{})
		put(t, other, "1")
		w, stop := watchValue(t, r.Registry, key)
		w.want(t, "1")
		r.Fail(errors.New("connection refused"))
		time.Sleep(2 * time.Second)
		del(t, other)
		r.Heal()
		time.Sleep(2 * time.Second)
		w.want(t, "1", "1!", "1!")
		del(t, r)
		w.want(t, "1", "1!", "1!", "absent")
		stop()
	})
}

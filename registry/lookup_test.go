package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func lookup(t *testing.T, r *registry.Registry, q registry.Query) []*registry.Instance {
	t.Helper()
	set, err := r.Lookup(t.Context(), q)
	if err != nil {
		t.Errorf("Lookup: %v", err)
	}
	return set
}

// wantStale fails unless err wraps a StaleError of that origin.
func wantStale(t *testing.T, err error, origin registry.Origin) registry.StaleError {
	t.Helper()
	var stale registry.StaleError
	var pointer *registry.StaleError
	if !errors.As(err, &stale) || !errors.As(err, &pointer) || pointer.Origin != stale.Origin {
		t.Fatalf("the error is %v, want a StaleError in it, as a value and as a pointer", err)
	}
	if stale.Origin != origin || stale.Since.IsZero() {
		t.Errorf("the set is from %v, since %v, want it from %v", stale.Origin, stale.Since, origin)
	}
	return stale
}

func TestLookup_CostsNothingAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("b"), instance("a"))
		r := newRegistry(t, d, registry.Options{})
		for range 100 {
			watchtest.WantIDs(t, lookup(t, r, web), "a", "b")
			time.Sleep(100 * time.Millisecond)
		}
		if n := d.count(&d.nexts); n != 2 {
			t.Errorf("100 lookups in 10 s made %d reads, want 2: the first, and a read that blocks", n)
		}
		d.put(instance("c"))
		synctest.Wait()
		watchtest.WantIDs(t, lookup(t, r, web), "a", "b", "c")
	})
}

func TestLookup_FirstOnesShareOneRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		open := d.shut()
		r := newRegistry(t, d, registry.Options{})
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { watchtest.WantIDs(t, lookup(t, r, web), "a") })
		}
		synctest.Wait()
		open()
		all.Wait()
		if n := d.count(&d.nexts); n != 1 {
			t.Errorf("1,000 lookups at once made %d reads, want 1", n)
		}
	})
}

func TestLookup_OnceAndCloseIsOneReadAndNoWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		start := time.Now()
		watchtest.WantIDs(t, lookup(t, r, web), "a")
		synctest.Wait() // the watch does now what it does next
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n := d.count(&d.nexts); n != 1 || d.sourcesClosed != 1 || time.Since(start) != 0 {
			t.Errorf("%d reads, %d closed sources, after %v; want one read and no wait", n, d.sourcesClosed, time.Since(start))
		}
	})
}

func TestLookup_WatchIsFreshAfterThePause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		lookup(t, r, web)
		time.Sleep(registry.LookupPause + time.Millisecond)
		d.put(instance("b"))
		synctest.Wait()
		watchtest.WantIDs(t, lookup(t, r, web), "a", "b")
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "a", "b")
	})
}

func TestLookup_SeesOwnWrites(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		watchtest.WantIDs(t, lookup(t, r, web))
		g := watchtest.Register(t, r, instance("a"))
		watchtest.WantIDs(t, lookup(t, r, web), "a")
		in := instance("a")
		in.Version = "2"
		if err := g.Update(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if set := lookup(t, r, web); len(set) != 1 || set[0].Version != "2" {
			t.Errorf("after Update Lookup finds %v", set)
		}
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		watchtest.WantIDs(t, lookup(t, r, web))
		time.Sleep(10 * time.Second) // the watch has caught up
		lookup(t, r, web)
		before := d.count(&d.nexts)
		for range 100 {
			watchtest.WantIDs(t, lookup(t, r, web))
		}
		if n := d.count(&d.nexts) - before; n != 0 {
			t.Errorf("100 lookups long after the writes made %d reads", n)
		}
	})
}

func TestLookup_InAnOutage(t *testing.T) {
	t.Run("the first returns the driver's error at once", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.fail(errors.New("down"))
			r := newRegistry(t, d, registry.Options{})
			start := time.Now()
			set, err := r.Lookup(t.Context(), web)
			var e *registry.Error
			if set != nil || !errors.Is(err, registry.ErrUnavailable) || !errors.As(err, &e) || e.Op != "lookup" || time.Since(start) != 0 {
				t.Errorf("it returns %v, %v after %v", watchtest.IDs(set), err, time.Since(start))
			}
			if stale := new(registry.StaleError); errors.As(err, &stale) {
				t.Errorf("beside no set the error wraps %v", stale)
			}
		})
	})
	t.Run("a later one has the set of the first", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			r := newRegistry(t, d, registry.Options{})
			lookup(t, r, web)
			time.Sleep(5 * time.Second)
			d.fail(errors.New("down"))
			down := time.Now()
			time.Sleep(5 * time.Second)
			set, err := r.Lookup(t.Context(), web)
			watchtest.WantIDs(t, set, "a")
			if stale := wantStale(t, err, registry.FromRegistry); !stale.Since.Equal(down) || !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("it says %v, since %v, want since %v", err, stale.Since, down)
			}
		})
	})
	t.Run("an empty set is withheld after it", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			d.put(instance("a"))
			r := newRegistry(t, d, registry.Options{})
			lookup(t, r, web)
			time.Sleep(5 * time.Second)
			d.fail(errors.New("down"))
			d.lose("web", "a")
			time.Sleep(5 * time.Second)
			d.fail(nil)
			time.Sleep(registry.DefaultBackoffMax)
			set, err := r.Lookup(t.Context(), web)
			watchtest.WantIDs(t, set, "a")
			if stale := wantStale(t, err, registry.FromRegistry); len(stale.Withheld) != 1 {
				t.Errorf("withheld are %q", stale.Withheld)
			}
		})
	})
}

func TestLookup_SavesToDisk(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{CacheDir: dir})
		lookup(t, r, web)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if files, err := filepath.Glob(filepath.Join(dir, "*.json")); err != nil || len(files) != 1 {
		t.Errorf("the folder has %q, %v", files, err)
	}
}

func TestRegistry_RemembersSetsOfWatchesThatEnded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		w.Stop()
		time.Sleep(31 * time.Minute)
		d.mu.Lock()
		closed := d.sourcesClosed
		d.mu.Unlock()
		if closed != 1 {
			t.Fatal("the watch still runs")
		}
		d.fail(errors.New("down"))
		before := time.Now()
		w = watchtest.Watch(t, r, web)
		synctest.Wait()
		got := w.Last()
		watchtest.WantIDs(t, got.Set, "a")
		stale := wantStale(t, got.Err, registry.FromMemory)
		if len(w.All()) != 1 || !errors.Is(got.Err, registry.ErrUnavailable) || before.Sub(stale.Since) < 30*time.Minute {
			t.Errorf("%d pairs, the last says %v, since %v", len(w.All()), got.Err, stale.Since)
		}
		set, err := r.Lookup(t.Context(), web)
		watchtest.WantIDs(t, set, "a")
		wantStale(t, err, registry.FromMemory)
		if n := log.with("instances=0"); n != 0 || log.with("instances=1") == 0 {
			t.Errorf("the log says %s", &log.text)
		}
		w.Stop()
		time.Sleep(24 * time.Hour) // and once more, though this watch had no answer
		set, err = r.Lookup(t.Context(), web)
		watchtest.WantIDs(t, set, "a")
		wantStale(t, err, registry.FromMemory)

		d.fail(nil)
		d.put(instance("b"))
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		watchtest.WantIDs(t, lookup(t, r, web), "a", "b")
	})
}

// A registry that accepts and never answers must not keep readers from what is remembered.
func TestRegistry_RemembersWhileTheRegistryHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{Linger: -1})
		lookup(t, r, web)
		synctest.Wait()
		d.shut()
		set, err := r.Lookup(watchtest.Within(t, 100*time.Millisecond), web)
		watchtest.WantIDs(t, set, "a")
		if wantStale(t, err, registry.FromMemory); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lookup whose context ends returns %v", err)
		}
		w := watchtest.Watch(t, r, web)
		time.Sleep(time.Second)
		synctest.Wait()
		watchtest.WantIDs(t, w.Last().Set, "a")
		wantStale(t, w.Last().Err, registry.FromMemory)
	})
}

func TestRegistry_BoundsWhatItRemembers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{Linger: -1})
		query := func(i int) registry.Query { return registry.Query{Service: "web", Version: fmt.Sprint(i)} }
		for i := range registry.MaxRemembered {
			lookup(t, r, query(i))
		}
		if _, ok := r.Known(query(0)); !ok {
			t.Error("the first query is forgotten too early")
		}
		lookup(t, r, query(registry.MaxRemembered))
		if _, ok := r.Known(query(1)); ok {
			t.Error("the query that was used least recently is remembered")
		}
		for _, i := range []int{0, 2, registry.MaxRemembered} {
			if _, ok := r.Known(query(i)); !ok {
				t.Errorf("query %d is forgotten", i)
			}
		}
	})
}

func TestRegistry_BoundsWatchesThatLinger(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		query := func(i int) registry.Query { return registry.Query{Service: "web", Version: fmt.Sprint(i)} }
		for i := range 2 * registry.MaxLingering {
			lookup(t, r, query(i))
		}
		synctest.Wait()
		d.mu.Lock()
		open := d.watched - d.sourcesClosed
		d.mu.Unlock()
		if open != registry.MaxLingering {
			t.Errorf("%d watches linger, want %d", open, registry.MaxLingering)
		}
		before := d.count(&d.nexts)
		lookup(t, r, query(2*registry.MaxLingering-1))
		if _, ok := r.Known(query(0)); !ok || d.count(&d.nexts) > before+1 {
			t.Errorf("the newest was read again, or the oldest is not remembered: %v", ok)
		}
	})
}

func TestStaleError_NamesItsOrigin(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for origin, want := range map[registry.Origin]string{
		registry.FromRegistry: "down",
		registry.FromMemory:   "down; what comes beside this error is from memory, known until 2026-01-02T03:04:05Z",
		registry.FromDisk:     "down; what comes beside this error is from disk, saved 2026-01-02T03:04:05Z",
	} {
		cause := errors.New("down")
		err := registry.StaleError{Since: at, Origin: origin, Err: cause}
		if err.Error() != want || !errors.Is(err, cause) {
			t.Errorf("it says %q, want %q", err.Error(), want)
		}
		var pointer *registry.StaleError
		if !errors.As(fmt.Errorf("wrapped: %w", err), &pointer) || pointer.Origin != origin {
			t.Errorf("a value is not found as a pointer: %v", pointer)
		}
		var back registry.Origin
		if text, err := origin.MarshalText(); err != nil || back.UnmarshalText(text) != nil || back != origin {
			t.Errorf("%v does not survive its text form: %v, %v", origin, back, err)
		}
	}
}

func TestLookup_WithAContextThatHasEnded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		set, err := r.Lookup(ended, web)
		synctest.Wait()
		if set != nil || !errors.Is(err, context.Canceled) || d.count(&d.nexts) != 0 {
			t.Errorf("of a query that nothing watches it returns %v, %v, after %d reads", watchtest.IDs(set), err, d.count(&d.nexts))
		}
		watchtest.WantIDs(t, lookup(t, r, web), "a")
		if set, err = r.Lookup(ended, web); len(set) != 1 || err != nil {
			t.Errorf("of a query that is watched it returns %v, %v", watchtest.IDs(set), err)
		}
		if _, err := r.Register(t.Context(), instance("b")); err != nil {
			t.Fatal(err)
		}
		if set, err = r.Lookup(ended, web); err == nil && len(set) == 1 {
			t.Error("after a write it returns the set from before, and no error")
		}
		time.Sleep(31 * time.Minute)
		reads := d.count(&d.nexts)
		set, err = r.Lookup(ended, web)
		watchtest.WantIDs(t, set, "a", "b")
		wantStale(t, err, registry.FromMemory)
		if n := d.count(&d.nexts); n != reads {
			t.Errorf("it reads %d times", n-reads)
		}
		r.Close()
		if set, err = r.Lookup(ended, web); set != nil || !errors.Is(err, registry.ErrClosed) {
			t.Errorf("after Close it returns %v, %v", watchtest.IDs(set), err)
		}
	})
}

// The answer may be there before the Lookup that asked for it looks.
func TestLookup_OnceIsOneReadHoweverQuickTheAnswerIs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		var all sync.WaitGroup
		const n = 3000
		for i := range n {
			all.Go(func() { lookup(t, r, registry.Query{Service: "web", Version: fmt.Sprint(i)}) })
		}
		all.Wait()
		synctest.Wait()
		if got := d.count(&d.nexts); got != n {
			t.Errorf("%d queries that are looked up once make %d reads", n, got)
		}
	})
}

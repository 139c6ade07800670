package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// careless is a driver whose store has entries that cannot be read.
type careless struct {
	*fake
	mu         sync.Mutex
	unreadable []registry.Unreadable
}

type carelessSource struct {
	registry.Source
	d *careless
}

func (d *careless) Watch(q registry.Query) registry.Source {
	return &carelessSource{d.fake.Watch(q), d}
}

func (s *carelessSource) Next(ctx context.Context) (registry.Set, error) {
	set, err := s.Source.Next(ctx)
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if err == nil {
		set.Unreadable = s.d.unreadable
	}
	return set, err
}

// has makes these the entries that cannot be read, and wakes all sources.
func (d *careless) has(all ...registry.Unreadable) {
	d.mu.Lock()
	d.unreadable = all
	d.mu.Unlock()
	d.fake.mu.Lock()
	defer d.fake.mu.Unlock()
	d.wake()
}

// lines is a log for several goroutines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// with returns how many lines have all the texts.
func (l *lines) with(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, s := range texts {
			all = all && strings.Contains(line, s)
		}
		if all {
			n++
		}
	}
	return n
}

func bad(entry, why string) registry.Unreadable {
	return registry.Unreadable{Entry: entry, Err: errors.New(why)}
}

func TestWatch_LogsEachUnreadableEntryOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(lines)
		d := &careless{fake: newFake()}
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil)), Linger: -1})
		d.put(instance("a"))
		logged := func(entry string, want int) {
			t.Helper()
			time.Sleep(time.Second) // reads are spaced
			if n := log.with("level=WARN", "service=web", "entry="+entry); n != want {
				t.Errorf("%s is logged %d times, want %d, in\n%s", entry, n, want, &log.text)
			}
		}
		d.has(bad("b", "no address"))
		for range 2 {
			if set, err := r.Lookup(t.Context(), web); err != nil || len(set) != 1 {
				t.Errorf("Lookup returns %v, %v", set, err)
			}
		}
		logged("b", 1)
		w := watchtest.Watch(t, r, web)
		other := watchtest.Watch(t, r, registry.Query{Service: "web", Version: "2"})
		synctest.Wait()
		d.put(instance("c")) // another set, and the same entries that cannot be read
		logged("b", 1)
		d.has(bad("b", "no port"))
		logged("b", 2)
		d.has()
		time.Sleep(time.Second)
		d.has(bad("b", "no port"))
		logged("b", 3)
		other.Stop()
		watchtest.WantIDs(t, w.Last().Set, "a", "c")
	})
}

func TestWatch_LogsAFewOfManyUnreadableEntries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(lines)
		d := &careless{fake: newFake()}
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		var many []registry.Unreadable
		for i := range 14 {
			many = append(many, bad(fmt.Sprint("many", i), "junk"))
		}
		d.has(many...)
		watchtest.Watch(t, r, web)
		synctest.Wait()
		if log.with("entry=many") != 10 || log.with("level=WARN", "service=web", "entries=4") != 1 {
			t.Errorf("the log says %s", &log.text)
		}
	})
}

func TestCountUnreadable_CountsWatchedServices(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &careless{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		counts := func(want int) {
			t.Helper()
			time.Sleep(time.Second) // reads are spaced
			if n := r.CountUnreadable(); n != want {
				t.Errorf("CountUnreadable returns %d, want %d", n, want)
			}
		}
		counts(0)
		first, second := watchtest.Watch(t, r, web), watchtest.Watch(t, r, registry.Query{Service: "web", Version: "2"})
		counts(0)
		d.has(bad("b", "no address"), bad("c", "no address"))
		counts(2) // two watches see the same two entries
		d.has(bad("c", "no address"))
		counts(1)
		watchtest.Watch(t, r, registry.Query{Service: "another"})
		counts(2) // an entry of that name in another service
		first.Stop()
		second.Stop()
		time.Sleep(2 * registry.DefaultLinger)
		counts(1)
	})
}

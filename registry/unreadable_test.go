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

	"github.com/rollcall-go/rollcall/registry"
)

// careless is a driver whose store has entries that cannot be read.
type careless struct {
	*fake
	mu    sync.Mutex
	found []registry.Unreadable
	total int
}

type carelessSource struct {
	registry.Source
	d *careless
}

func (d *careless) Follow(q registry.Query) registry.Source {
	return &carelessSource{d.fake.Follow(q), d}
}

func (d *careless) CountUnreadable() int { return d.total }

func (s *carelessSource) Unreadable() []registry.Unreadable {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	found := s.d.found
	s.d.found = nil
	return found
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

// with are the lines that hold all the texts.
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

func TestUnreadableEntriesAreLogged(t *testing.T) {
	log := new(lines)
	d := &careless{fake: newFake(), total: 3}
	r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	d.put(registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	d.found = []registry.Unreadable{{Entry: "s/b", Err: errors.New("no address")}}
	if set, err := r.Lookup(t.Context(), registry.Query{Service: "s"}); err != nil || len(set) != 1 {
		t.Errorf("got %v, %v", set, err)
	}
	if log.with("level=WARN", "service=s", "entry=s/b", "no address") != 1 {
		t.Errorf("the log says %s", &log.text)
	}

	for i := range 14 {
		d.found = append(d.found, registry.Unreadable{Entry: fmt.Sprint("s/many", i), Err: errors.New("junk")})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for set, err := range r.Watch(ctx, registry.Query{Service: "s"}) {
		if err != nil || len(set) != 1 {
			t.Errorf("got %v, %v", set, err)
		}
		break
	}
	if log.with("entry=s/many") != 10 || log.with("level=WARN", "service=s", "entries=4") != 1 {
		t.Errorf("the log says %s", &log.text)
	}
	if n := r.CountUnreadable(); n != 3 {
		t.Errorf("%d entries cannot be read", n)
	}
}

func TestCountUnreadableOfADriverThatDoesNotCount(t *testing.T) {
	if n := newRegistry(t, newFake(), registry.Options{}).CountUnreadable(); n != 0 {
		t.Errorf("it is %d", n)
	}
}

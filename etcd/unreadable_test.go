package etcd

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// logbook is a log for several goroutines.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// A value that cannot be read is logged once, whoever comes across it and however often, until it changes.
func TestUnreadableIsLoggedOnce(t *testing.T) {
	server := testbed.StartEtcd(t)
	operator := operatorOf(t, server)
	log := new(logbook)
	r := registry.New(driverFor(t, Config{Endpoints: []string{server.Addr()}}), registry.Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)), Linger: -1,
	})
	t.Cleanup(func() { r.Close() })
	put := func(id, value string) {
		t.Helper()
		if _, err := operator.Put(within(t, patience), DefaultPrefix+"s/"+id, value); err != nil {
			t.Fatal(err)
		}
	}
	instance := func(i int) string { return fmt.Sprintf(`{"address":"10.0.0.1:%d"}`, 1000+i) }
	wantLines := func(id string, want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d lines about %s", want, id), func() bool { return log.count("entry=/rollcall/s/"+id+" ") >= want })
		if n := log.count("entry=/rollcall/s/" + id + " "); n != want {
			t.Errorf("%d lines about %s, want %d:\n%s", n, id, want, &log.text)
		}
	}
	q := registry.Query{Service: "s", AnyStatus: true}
	put("junk", secret)
	put("good", instance(0))
	one, other := follow(t, r, registry.Query{Service: "s"}), follow(t, r, q)
	change := 0
	neighbourChanges := func() {
		t.Helper()
		change++
		put("good", instance(change))
		seen := func(p pair) bool {
			return healthy(1)(p) && strings.HasSuffix(p.set[0].Address, fmt.Sprint(1000+change))
		}
		one.until("a change of its neighbour", seen)
		other.until("a change of its neighbour", seen)
	}
	one.until("the good one", healthy(1))
	other.until("the good one", healthy(1))
	for range 3 {
		neighbourChanges()
		if _, err := r.Lookup(within(t, patience), registry.Query{Service: "s", Tags: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
	}
	wantLines("junk", 1)
	if n := r.CountUnreadable(); n != 1 {
		t.Errorf("%d values are said to be unreadable", n)
	}

	// Nothing else happens at the same time.
	put("junk", "other junk of "+secret)
	wantLines("junk", 2)
	put("more", "")
	wantLines("more", 1)
	neighbourChanges()
	wantLines("junk", 2)
	if n := r.CountUnreadable(); n != 2 {
		t.Errorf("%d values are said to be unreadable", n)
	}

	// One becomes readable, the other goes.
	put("junk", instance(0))
	one.until("what was junk", healthy(2))
	if _, err := operator.Delete(within(t, patience), DefaultPrefix+"s/more"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "none is unreadable", func() bool { return r.CountUnreadable() == 0 })
	put("junk", secret)
	wantLines("junk", 3)
	one.until("junk again", healthy(1))
	if log.count(secret) > 0 {
		t.Errorf("the log has the value: %s", &log.text)
	}

	// What has gone while nobody watched is not counted for ever.
	elsewhere := connect(t, Config{Endpoints: []string{server.Addr()}})
	lookup := func() {
		t.Helper()
		if _, err := elsewhere.Lookup(within(t, patience), q); err != nil {
			t.Fatal(err)
		}
	}
	lookup()
	if n := elsewhere.CountUnreadable(); n != 1 {
		t.Errorf("%d values are said to be unreadable", n)
	}
	if _, err := operator.Delete(within(t, patience), DefaultPrefix+"s/junk"); err != nil {
		t.Fatal(err)
	}
	lookup()
	if n := elsewhere.CountUnreadable(); n != 0 {
		t.Errorf("%d values are said to be unreadable", n)
	}
}

// A store that begins again comes to each revision once more.
func TestUnreadableInAStoreThatBeganAgain(t *testing.T) {
	u := new(unreadable)
	if !u.add("s", "a", 1000) || !u.add("t", "a", 1000) || !u.add("s", "b", 3) {
		t.Fatal("what is new is no news")
	}
	u.restart("s", 3)
	for service, want := range map[string]bool{"s": true, "t": false} {
		if got := u.add(service, "a", 2); got != want {
			t.Errorf("what %s has at revision 2 is news: %v", service, got)
		}
	}
	if u.add("s", "b", 3) {
		t.Error("what stands at the revision that was read is news")
	}
}

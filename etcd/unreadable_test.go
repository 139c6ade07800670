package etcd

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
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

// An unreadable entry is logged once for all watches, until the reason changes.
func TestSource_UnreadableEntryIsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	log := new(logbook)
	r := watchtest.NewRegistry(t, driverFor(t, Config{Endpoints: []string{server.Addr()}}), registry.Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)), Linger: -1,
	})
	put := func(id, value string) {
		t.Helper()
		if _, err := operator.Put(watchtest.Context(t), DefaultPrefix+"s/"+id, value); err != nil {
			t.Fatal(err)
		}
	}
	instance := func(i int) string { return fmt.Sprintf(`{"address":"10.0.0.1:%d"}`, 1000+i) }
	wantLines := func(id string, want int) {
		t.Helper()
		watchtest.Eventually(t, fmt.Sprintf("%d lines about %s", want, id), func() bool { return log.count("entry=/rollcall/s/"+id+" ") >= want })
		if n := log.count("entry=/rollcall/s/" + id + " "); n != want {
			t.Errorf("%d lines about %s, want %d:\n%s", n, id, want, &log.text)
		}
	}
	q := registry.Query{Service: "s", AnyStatus: true}
	put("junk", secret)
	put("good", instance(0))
	one, other := watchtest.Watch(t, r, registry.Query{Service: "s"}), watchtest.Watch(t, r, q)
	change := 0
	neighbourChanges := func() {
		t.Helper()
		change++
		put("good", instance(change))
		seen := func(p watchtest.Pair) bool {
			return watchtest.Healthy(1)(p) && strings.HasSuffix(p.Set[0].Address, fmt.Sprint(1000+change))
		}
		one.Until("a change of its neighbour", seen)
		other.Until("a change of its neighbour", seen)
	}
	one.Until("the good one", watchtest.Healthy(1))
	other.Until("the good one", watchtest.Healthy(1))
	for range 3 {
		neighbourChanges()
		if _, err := r.Lookup(watchtest.Context(t), registry.Query{Service: "s", Tags: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
	}
	wantLines("junk", 1)
	if n := r.CountUnreadable(); n != 1 {
		t.Errorf("%d entries are unreadable", n)
	}

	// Nothing else happens at the same time.
	put("junk", "other junk of "+secret)
	wantLines("junk", 2)
	put("more", "")
	wantLines("more", 1)
	neighbourChanges()
	wantLines("junk", 2)
	if n := r.CountUnreadable(); n != 2 {
		t.Errorf("%d entries are unreadable", n)
	}

	// One becomes readable, the other goes.
	put("junk", instance(0))
	one.Until("what was junk", watchtest.Healthy(2))
	if _, err := operator.Delete(watchtest.Context(t), DefaultPrefix+"s/more"); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "none is unreadable", func() bool { return r.CountUnreadable() == 0 })
	put("junk", secret)
	wantLines("junk", 3)
	one.Until("junk again", watchtest.Healthy(1))
	if log.count(secret) > 0 {
		t.Errorf("the log has the value: %s", &log.text)
	}

	// An entry that was deleted between two lookups is not counted any longer.
	elsewhere := connect(t, Config{Endpoints: []string{server.Addr()}})
	lookup := func() {
		t.Helper()
		if _, err := elsewhere.Lookup(watchtest.Context(t), q); err != nil {
			t.Fatal(err)
		}
	}
	lookup()
	if n := elsewhere.CountUnreadable(); n != 1 {
		t.Errorf("%d entries are unreadable", n)
	}
	if _, err := operator.Delete(watchtest.Context(t), DefaultPrefix+"s/junk"); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "none is unreadable elsewhere", func() bool { lookup(); return elsewhere.CountUnreadable() == 0 })
}

package consul

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// detour makes one registration late: it arrives when deliver is called. The connection breaks before there is an answer, unless
// hold was called, which has it wait for one.
type detour struct {
	agent string

	mu    sync.Mutex
	armed bool
	held  *held
	late  []byte // the body
}

// held is a registration that waits for its answer.
type held struct{ began, answered chan struct{} }

func (o *detour) intercept(w http.ResponseWriter, r *http.Request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.armed || r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/agent/service/register") {
		return false
	}
	o.armed = false
	o.late, _ = io.ReadAll(r.Body)
	if h := o.held; h != nil {
		o.held = nil
		o.mu.Unlock()
		defer o.mu.Lock()
		close(h.began)
		select {
		case <-h.answered:
		case <-r.Context().Done():
		}
		return true
	}
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
	return true
}

func (o *detour) arm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = true
}

// hold is arm for a registration that is not answered before answered is closed.
func (o *detour) hold() *held {
	o.arm()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = &held{make(chan struct{}), make(chan struct{})}
	return o.held
}

func (o *detour) deliver(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.late == nil {
		t.Fatal("nothing was made late")
	}
	q, err := http.NewRequest(http.MethodPut, "http://"+o.agent+"/v1/agent/service/register", bytes.NewReader(o.late))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// An agent that hung reads, when it goes on, registrations that were given up and made again since.
func TestALateWriteIsPutRight(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	start := func(t *testing.T) (*detour, *driver) {
		proxy := testbed.NewProxy(t, agent.Addr())
		o := &detour{agent: agent.Addr()}
		proxy.Intercept(o.intercept)
		d, err := newDriver(Config{Address: proxy.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return o, d
	}
	version := func(service, v string) *registry.Instance {
		return &registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Weight: 1, Version: v}
	}
	keep := func(t *testing.T, l registry.Lease) {
		ctx, cancel := context.WithCancel(context.Background())
		end := make(chan error, 1)
		go func() { end <- l.Keep(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-end; err != context.Canceled {
				t.Errorf("Keep returned %v", err)
			}
		})

	}
	has := func(service, v string) bool {
		entry, _, err := operator.Agent().Service(serviceID(service, "a"), nil)
		return err == nil && entry.Meta["version"] == v
	}
	put := func(t *testing.T, o *detour, service, want string) {
		t.Helper()
		o.deliver(t)
		began := time.Now()
		eventually(t, "the newest content is back", func() bool { return has(service, want) })
		t.Logf("put right after %v", time.Since(began))
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("of Update", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Announce(t.Context(), version("late-update", "0"))
		must(t, err)
		keep(t, l)
		o.arm()
		if err := l.Update(t.Context(), version("late-update", "1")); err == nil {
			t.Fatal("the update was not made late")
		}
		must(t, l.Update(t.Context(), version("late-update", "2")))
		put(t, o, "late-update", "2")
		must(t, l.Update(t.Context(), version("late-update", "3")))
		put(t, o, "late-update", "3")
	})
	t.Run("of Announce", func(t *testing.T) {
		o, d := start(t)
		o.arm()
		if _, err := d.Announce(t.Context(), version("late-announce", "1")); err == nil {
			t.Fatal("the announcement was not made late")
		}
		l, err := d.Announce(t.Context(), version("late-announce", "2"))
		must(t, err)
		keep(t, l)
		put(t, o, "late-announce", "2")
	})
	t.Run("of another Announce, and nobody knows", func(t *testing.T) {
		o, d := start(t)
		first, err := d.Announce(t.Context(), version("late-again", "1"))
		must(t, err)
		o.arm()
		if _, err := d.Announce(t.Context(), version("late-again", "2")); err == nil {
			t.Fatal("the announcement was not made late")
		}
		o.deliver(t)
		must(t, first.(registry.ReplacedChecker).CheckReplaced(t.Context()))
		must(t, first.Release(t.Context()))
		if entry, _, err := operator.Agent().Service(serviceID("late-again", "a"), nil); err == nil {
			t.Errorf("what the second attempt wrote is left: %+v", entry)
		}
	})
	t.Run("of another Announce, and another's after it", func(t *testing.T) {
		o, d := start(t)
		first, err := d.Announce(t.Context(), version("late-other", "1"))
		must(t, err)
		o.arm()
		_, _ = d.Announce(t.Context(), version("late-other", "2"))
		_, other := start(t)
		theirs, err := other.Announce(t.Context(), version("late-other", "3"))
		must(t, err)
		if err := first.(registry.ReplacedChecker).CheckReplaced(t.Context()); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("CheckReplaced returned %v", err)
		}
		must(t, first.Release(t.Context()))
		if !has("late-other", "3") {
			t.Error("another's entry was removed")
		}
		must(t, theirs.Release(t.Context()))
		must(t, first.(registry.ReplacedChecker).CheckReplaced(t.Context()))
	})
	t.Run("before the next", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Announce(t.Context(), version("early", "0"))
		must(t, err)
		keep(t, l)
		o.arm()
		_ = l.Update(t.Context(), version("early", "1"))
		o.deliver(t)
		must(t, l.Update(t.Context(), version("early", "2")))
		eventually(t, "the newest content", func() bool { return has("early", "2") })
	})
	t.Run("and is not cut off by Deregister", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Announce(t.Context(), version("cut", "0"))
		must(t, err)
		o.arm()
		_ = l.Update(t.Context(), version("cut", "1"))
		must(t, l.Update(t.Context(), version("cut", "2")))
		o.deliver(t)
		rewrite := o.hold()
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { l.Keep(ctx) })
		<-rewrite.began
		cancel()
		released := make(chan error, 1)
		work.Go(func() { released <- l.Release(within(t, patience)) })
		select {
		case err := <-released: // before the agent has read the rewrite
			released <- err
		case <-time.After(100 * time.Millisecond):
		}
		o.deliver(t)
		close(rewrite.answered)
		work.Wait()
		must(t, <-released)
		if entry, _, err := operator.Agent().Service(serviceID("cut", "a"), nil); err == nil {
			t.Errorf("what was released is back: %+v", entry)
		}
	})
	t.Run("and an operator's change is not", func(t *testing.T) {
		_, d := start(t)
		l, err := d.Announce(t.Context(), version("operator", "1"))
		must(t, err)
		keep(t, l)
		entry, _, err := operator.Agent().Service(serviceID("operator", "a"), nil)
		must(t, err)
		o := &detour{agent: agent.Addr(), late: []byte(`{"ID":"` + entry.ID + `","Name":"operator","Address":"10.0.0.1","Port":80,
			"Meta":{"rollcall-owner":"` + entry.Meta[metaOwner] + `","version":"by hand"}}`)}
		o.deliver(t)
		must(t, l.(*lease).rewrite(t.Context()))
		if !has("operator", "by hand") {
			t.Error("an operator's change of an entry that has its mark was undone")
		}
	})
}

func TestAttemptsThatSeemToFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarks()
		before, first, second, after := m.next(), m.next(), m.next(), m.next()
		want := func(when string, tried ...mark) {
			t.Helper()
			for _, of := range []mark{before, first, second, after} {
				if got := m.hasTried("s", of); got != slices.Contains(tried, of) {
					t.Errorf("%s %v was tried: %v", when, of, got)
				}
			}
		}
		m.failed("s", first)
		m.failed("s", second)
		m.failed("other", after)
		want("then", first, second)
		if m.hasTried("s", mark{client: "another", lease: first.lease}) {
			t.Error("what another tried is taken for ours")
		}
		m.settled("s")
		want("after one that succeeded")
		m.failed("s", after)
		want("after that", after)
		time.Sleep(2 * longAgo)
		m.failed("other", after)
		want("long after")
	})
}

func TestMarks(t *testing.T) {
	m := newMarks()
	first, second := m.next(), m.next()
	later := second
	later.turn++
	for _, c := range []struct {
		a, b         mark
		outdates, of bool // a outdates b; b is of a
	}{
		{first, first, false, true}, {second, first, true, true}, {first, second, false, false},
		{later, second, true, true}, {second, later, false, true}, {first, newMarks().next(), false, false},
		{first, parseMark(""), false, false}, {first, parseMark("x.1"), false, false}, {first, parseMark(m.client + ".a.b"), false, false},
	} {
		if got := c.a.outdates(c.b); got != c.outdates {
			t.Errorf("%v outdates %v: %v", c.a, c.b, got)
		}
		if got := c.a.isOf(c.b); got != c.of {
			t.Errorf("%v is of %v: %v", c.b, c.a, got)
		}
		if c.a != parseMark(c.a.String()) {
			t.Errorf("%v is read as %v", c.a, parseMark(c.a.String()))
		}
	}
}

package consul

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// detour delays one registration until deliver is called. The connection of the registration breaks before there is an answer. After
// delayAnswer it waits for the answer instead.
type detour struct {
	agent string

	mu      sync.Mutex
	armed   bool
	delayed *delayed
	late    []byte // the body
}

// delayed is a registration that waits for its answer.
type delayed struct{ began, answered chan struct{} }

func (o *detour) intercept(w http.ResponseWriter, r *http.Request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.armed || r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/agent/service/register") {
		return false
	}
	o.armed = false
	o.late, _ = io.ReadAll(r.Body)
	if h := o.delayed; h != nil {
		o.delayed = nil
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

// delayAnswer is like arm, but the registration waits for its answer until answered is closed.
func (o *detour) delayAnswer() *delayed {
	o.arm()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delayed = &delayed{make(chan struct{}), make(chan struct{})}
	return o.delayed
}

func (o *detour) deliver(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.late == nil {
		t.Fatal("no registration was delayed")
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

// When a paused agent goes on, it reads registrations that the client has given up and made again meanwhile.
func TestWait_ReplacesADelayedWrite(t *testing.T) {
	t.Parallel()
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
		go func() { end <- l.Wait(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-end; err != context.Canceled {
				t.Errorf("Wait returned %v", err)
			}
		})

	}
	has := func(service, v string) bool {
		entry, _, err := operator.Agent().Service(codec.ServiceID(service, "a"), nil)
		return err == nil && entry.Meta["version"] == v
	}
	put := func(t *testing.T, o *detour, service, want string) {
		t.Helper()
		o.deliver(t)
		began := time.Now()
		watchtest.Eventually(t, "the newest content is back", func() bool { return has(service, want) })
		t.Logf("corrected after %v", time.Since(began))
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("of Update", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Register(t.Context(), version("late-update", "0"), nil)
		must(t, err)
		keep(t, l)
		o.arm()
		if err := l.Update(t.Context(), version("late-update", "1")); err == nil {
			t.Fatal("the update was not delayed")
		}
		must(t, l.Update(t.Context(), version("late-update", "2")))
		put(t, o, "late-update", "2")
		must(t, l.Update(t.Context(), version("late-update", "3")))
		put(t, o, "late-update", "3")
	})
	t.Run("of Register", func(t *testing.T) {
		o, d := start(t)
		o.arm()
		failed, err := d.Register(t.Context(), version("delayed-register", "1"), nil)
		if err == nil || failed == nil {
			t.Fatalf("a registration that may arrive later returned %v, %v", failed, err)
		}
		l, err := d.Register(t.Context(), version("delayed-register", "2"), failed)
		must(t, err)
		keep(t, l)
		put(t, o, "delayed-register", "2")
	})
	t.Run("of a second Register", func(t *testing.T) {
		o, d := start(t)
		first, err := d.Register(t.Context(), version("late-again", "1"), nil)
		must(t, err)
		o.arm()
		second, err := d.Register(t.Context(), version("late-again", "2"), first)
		if err == nil || second == nil {
			t.Fatalf("a registration that may arrive later returned %v, %v", second, err)
		}
		o.deliver(t)
		must(t, second.CheckReplaced(t.Context()))
		must(t, second.Release(t.Context()))
		if entry, _, err := operator.Agent().Service(codec.ServiceID("late-again", "a"), nil); err == nil {
			t.Errorf("what the second attempt wrote is left: %+v", entry)
		}
	})
	t.Run("of a second Register, before another process registers", func(t *testing.T) {
		o, d := start(t)
		first, err := d.Register(t.Context(), version("late-other", "1"), nil)
		must(t, err)
		o.arm()
		second, _ := d.Register(t.Context(), version("late-other", "2"), first)
		_, other := start(t)
		theirs, err := other.Register(t.Context(), version("late-other", "3"), nil)
		must(t, err)
		if err := second.CheckReplaced(t.Context()); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("CheckReplaced returned %v", err)
		}
		must(t, second.Release(t.Context()))
		if !has("late-other", "3") {
			t.Error("the entry of another registration was removed")
		}
		must(t, theirs.Release(t.Context()))
		must(t, second.CheckReplaced(t.Context()))
	})
	t.Run("before the next", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Register(t.Context(), version("early", "0"), nil)
		must(t, err)
		keep(t, l)
		o.arm()
		_ = l.Update(t.Context(), version("early", "1"))
		o.deliver(t)
		must(t, l.Update(t.Context(), version("early", "2")))
		watchtest.Eventually(t, "the newest content", func() bool { return has("early", "2") })
	})
	t.Run("and is not cut off by Deregister", func(t *testing.T) {
		o, d := start(t)
		l, err := d.Register(t.Context(), version("cut", "0"), nil)
		must(t, err)
		o.arm()
		_ = l.Update(t.Context(), version("cut", "1"))
		must(t, l.Update(t.Context(), version("cut", "2")))
		o.deliver(t)
		rewrite := o.delayAnswer()
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { l.Wait(ctx) })
		<-rewrite.began
		cancel()
		released := make(chan error, 1)
		work.Go(func() { released <- l.Release(watchtest.Context(t)) })
		watchtest.Eventually(t, "Release has begun", func() bool { return l.(*lease).releasing.Load() })
		o.deliver(t)
		close(rewrite.answered)
		work.Wait()
		must(t, <-released)
		if entry, _, err := operator.Agent().Service(codec.ServiceID("cut", "a"), nil); err == nil {
			t.Errorf("the released entry is back: %+v", entry)
		}
	})
	t.Run("and an operator's change is not", func(t *testing.T) {
		_, d := start(t)
		l, err := d.Register(t.Context(), version("operator", "1"), nil)
		must(t, err)
		keep(t, l)
		entry, _, err := operator.Agent().Service(codec.ServiceID("operator", "a"), nil)
		must(t, err)
		o := &detour{agent: agent.Addr(), late: []byte(`{"ID":"` + entry.ID + `","Name":"operator","Address":"10.0.0.1","Port":80,
			"Meta":{"rollcall-owner":"` + entry.Meta[codec.MetaOwner] + `","version":"by hand"}}`)}
		o.deliver(t)
		must(t, l.(*lease).rewrite(t.Context()))
		if !has("operator", "by hand") {
			t.Error("an operator's change of an entry that has its owner tag was undone")
		}
	})
}

// A Register that gives up while the agent is paused leaves its request behind. When the agent goes on, it may say that there is no entry, and
// carry the request out a moment later.
func TestRelease_RemovesADelayedWrite(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	proxy := testbed.NewProxy(t, agent.Addr())
	o := &detour{agent: agent.Addr()}
	looked := make(chan struct{}, 1)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/agent/service/") {
			select {
			case looked <- struct{}{}:
			default:
			}
		}
		return o.intercept(w, r)
	})
	d, err := newDriver(Config{Address: proxy.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	in := &registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Weight: 1}
	o.arm()
	l, err := d.Register(watchtest.Context(t), in, nil)
	if err == nil || l == nil {
		t.Fatalf("Register returns %v, %v", l, err)
	}
	for len(looked) > 0 {
		<-looked
	}
	released := make(chan error, 1)
	go func() { released <- l.Release(watchtest.Context(t)) }()
	for range 2 { // the second look comes after the answer to the first
		watchtest.Receive(t, "a look at the entry", looked)
	}
	o.deliver(t)
	if err := watchtest.Receive(t, "Release to return", released); err != nil {
		t.Error(err)
	}
	if entry, _, err := operator.Agent().Service(codec.ServiceID(in.Service, in.ID), nil); err == nil {
		t.Errorf("the entry is there: %+v", entry)
	}
}

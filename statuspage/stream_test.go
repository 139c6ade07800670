package statuspage_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// stream is the writer of a request that is still being answered.
type stream struct {
	header http.Header
	mu     sync.Mutex
	body   bytes.Buffer
	sent   string // what was flushed
	broken bool
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return 0, http.ErrHandlerTimeout
	}
	return s.body.Write(b)
}

func (s *stream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = s.body.String()
}

// events returns the events that were sent.
func (s *stream) events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.SplitAfter(s.sent, "\n\n")[:strings.Count(s.sent, "\n\n")]
}

// listen requests the stream of events. ended is closed when the handler has returned.
func listen(t *testing.T, h http.Handler) (s *stream, cancel context.CancelFunc, ended <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s = &stream{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(s, httptest.NewRequestWithContext(ctx, "GET", "/?format=events", nil))
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return s, cancel, done
}

func firstEvent(t *testing.T, h http.Handler) string {
	t.Helper()
	s, _, _ := listen(t, h)
	all := s.events()
	if len(all) != 1 {
		t.Fatalf("got %d events, want 1", len(all))
	}
	return all[0]
}

func TestHandler_StreamsChanges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		s, cancel, ended := listen(t, h)
		all := s.events()
		if len(all) != 1 || s.header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("got %q, %v", all, s.header)
		}
		for line := range strings.Lines(strings.TrimSuffix(all[0], "\n")) {
			if !strings.HasPrefix(line, "data: ") {
				t.Errorf("a line of the event is %q", line)
			}
		}
		time.Sleep(2 * time.Second)
		if n := len(s.events()); n != 1 {
			t.Fatalf("got %d events without a change, want 1", n)
		}
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: address})
		synctest.Wait()
		if all = s.events(); len(all) != 2 || !strings.Contains(all[1], "web/a") {
			t.Fatalf("after a change: %q", all)
		}
		for _, id := range []string{"b", "c", "d"} {
			watchtest.Register(t, store, registry.Instance{Service: "web", ID: id, Address: address})
		}
		time.Sleep(time.Second)
		if all = s.events(); len(all) != 3 || !strings.Contains(all[2], "web/d") {
			t.Errorf("after a storm of changes there are %d events, want 3", len(all))
		}
		time.Sleep(10 * time.Second)
		if n := len(s.events()); n != 5 {
			t.Errorf("got %d events after 10 s without a change, want one each 5 s", n)
		}
		cancel()
		<-ended
	})
}

func TestHandler_StreamEndsWhenTheClientHasGone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		s, _, ended := listen(t, statuspage.Handler(statuspage.Config{}, store.Registry))
		s.mu.Lock()
		s.broken = true
		s.mu.Unlock()
		<-ended
	})
}

func TestHandler_StreamDoesNotDelayShutdown(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	server := httptest.NewServer(statuspage.Handler(statuspage.Config{}, store.Registry))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	resp, err := server.Client().Get(server.URL + "/debug/?format=events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// kv is a server of either kind that stores one value.
type kv interface {
	Addr() string
	Kill()
	Terminate()
	Stop()
	Continue()
	Restart(keepData bool)
	put(tb testing.TB, value string)
	get(ctx context.Context) (value string, err error)
}

func forEachServer(t *testing.T, f func(t *testing.T, s kv)) {
	t.Run("consul", func(t *testing.T) { t.Parallel(); f(t, StartConsul(t)) })
	t.Run("etcd", func(t *testing.T) { t.Parallel(); f(t, StartEtcd(t)) })
}

func wantValue(t *testing.T, s kv, want string) {
	t.Helper()
	got, err := s.get(t.Context())
	if err != nil || got != want {
		t.Errorf("the server has %q (%v), want %q", got, err, want)
	}
}

func TestServer_RestartsWithAndWithoutData(t *testing.T) {
	t.Parallel()
	forEachServer(t, func(t *testing.T, s kv) {
		addr := s.Addr()
		s.put(t, "kept")

		s.Restart(true) // while it runs
		wantValue(t, s, "kept")

		s.Terminate()
		s.Restart(true)
		wantValue(t, s, "kept")

		s.Kill()
		if _, err := s.get(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a killed server gives %v, want a refused connection", err)
		}
		s.Restart(false)
		wantValue(t, s, "")
		if s.Addr() != addr {
			t.Errorf("the address changed from %s to %s", addr, s.Addr())
		}
	})
}

func TestServer_StopsAndContinues(t *testing.T) {
	t.Parallel()
	forEachServer(t, func(t *testing.T, s kv) {
		s.put(t, "here")
		began := time.Now()
		wantValue(t, s, "here")
		usual := time.Since(began)
		s.Stop()
		type answer struct {
			value string
			err   error
		}
		answers := make(chan answer, 1)
		go func() {
			value, err := s.get(t.Context())
			answers <- answer{value, err}
		}()
		// Another request gets no answer in 20 times as long as an answer took before.
		limited, cancel := context.WithTimeout(t.Context(), 20*usual)
		defer cancel()
		if value, err := s.get(limited); !errors.Is(err, context.DeadlineExceeded) || len(answers) > 0 {
			t.Fatalf("a stopped server answers %q, %v, and %d requests before", value, err, len(answers))
		}
		s.Continue()
		if a := watchtest.Receive(t, "an answer of the server that continues", answers); a.value != "here" || a.err != nil {
			t.Errorf("the request that hung came back with %+v", a)
		}
		s.Stop() // it is still stopped when the test ends
	})
}

func TestServer_EndsWhileStopped(t *testing.T) {
	t.Parallel()
	forEachServer(t, func(t *testing.T, s kv) {
		s.Stop()
		s.Terminate()
		s.Restart(true)
		s.Stop()
		s.Kill()
		s.Kill() // it is down already
	})
}

func TestServer_RunsBesideOthers(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"one", "two"} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			for _, s := range []kv{StartConsul(t), StartEtcd(t)} {
				s.put(t, value)
				wantValue(t, s, value)
			}
		})
	}
}

func TestServer_StartsAlthoughPortIsInUse(t *testing.T) {
	t.Parallel()
	var blocker net.Listener
	starts := 0
	c := newConsul(t, ConsulOptions{})
	c.server.configure = func() ([]string, error) {
		starts++
		var err error
		switch starts {
		case 1, 3: // the first attempt of launch, and of Restart below
			blocker, err = net.Listen("tcp", c.Addr())
		case 2, 4:
			err = blocker.Close()
		}
		if err != nil {
			return nil, err
		}
		return c.configure()
	}
	c.launch(&consulProgram, consulPorts)
	if starts != 2 || c.Addr() == blocker.Addr().String() {
		t.Errorf("after %d starts the server is at %s, want 2 starts and another port than %s, which is in use", starts, c.Addr(), blocker.Addr())
	}
	addr := c.Addr()
	c.Restart(true)
	if starts != 4 || c.Addr() != addr {
		t.Errorf("after %d starts the server is at %s, want %s", starts, c.Addr(), addr)
	}
}

// A failing is a test whose failure does not fail the test that it wraps.
type failing struct {
	testing.TB
	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestStartConsul_ShowsLogOfFailedStart(t *testing.T) {
	t.Parallel()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		StartConsul(f, ConsulOptions{Config: `datacenter = "not/a/name"`})
	}()
	<-done
	if !strings.Contains(f.message, "exit status 1") || !strings.Contains(f.message, "datacenter can only contain") {
		t.Errorf("the test fails with %q, which does not say why", f.message)
	}
}

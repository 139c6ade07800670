package memory_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

var openers = registry.Openers{"memory": memory.Open}

func open(t *testing.T, url string) *registry.Registry {
	t.Helper()
	r, err := openers.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func TestOpen_SharesStoresByName(t *testing.T) {
	one, again, upper, unnamed := open(t, "memory://one"), open(t, "memory://one/"), open(t, "memory://One"), open(t, "memory://")
	g := watchtest.Register(t, one, instance("a"))
	wantThere(t, again, true)
	wantThere(t, upper, false)
	wantThere(t, unnamed, false)

	handle := memory.Named("one")
	defer handle.Close()
	wantThere(t, handle, true)
	handle.SetStatus("web", "a", registry.Critical)
	if s, _, _ := status(again); s != registry.Critical {
		t.Errorf("the status is %v", s)
	}
	if one.String() != "memory one" || unnamed.String() != "memory" {
		t.Errorf("the stores call themselves %q and %q", one, unnamed)
	}
	if err := g.Deregister(t.Context()); err != nil {
		t.Error(err)
	}

	g = watchtest.Register(t, unnamed, instance("a"))
	nameless := memory.Named("")
	defer nameless.Close()
	wantThere(t, nameless, true)
	private := memory.New()
	defer private.Close()
	wantThere(t, private, false)
	if err := g.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNamed_StoreOutlivesItsClients(t *testing.T) {
	first := memory.Named("outlives")
	watchtest.Register(t, first, instance("a"))
	first.Crash()
	second := open(t, "memory://outlives")
	wantThere(t, second, true)
	if err := watchtest.Register(t, second, instance("a")).Deregister(t.Context()); err != nil { // -count runs this again
		t.Error(err)
	}
}

func TestOpen_ReadsOptions(t *testing.T) {
	dir := t.TempDir()
	r := open(t, "memory://options?ttl=10ms&linger=off&cache-dir="+dir)
	for range r.Watch(t.Context(), web) {
		break
	}
	// The set is written after it is yielded.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if files, err := os.ReadDir(dir); err != nil || time.Now().After(deadline) {
			t.Fatalf("cache-dir was not used: %v", err)
		} else if len(files) > 0 {
			break
		}
	}
}

func TestOpen_Refuses(t *testing.T) {
	for url, want := range map[string][]string{
		"memory://user:hunter2@one":       {"user", "credentials"},
		"memory://:hunter2@one":           {"user"},
		"memory://one:8500":               {`port "8500"`},
		"memory://one/two":                {`path "/two"`},
		"memory:one":                      {"memory://name"},
		"memory://one#two":                {`fragment "two"`},
		"memory://one?ttl=soon":           {`"ttl"`, "soon", "duration"},
		"memory://one?ttl=0s":             {`"ttl"`, "0s"},
		"memory://one?ttl=-1s":            {`"ttl"`, "-1s"},
		"memory://one?tll=1s&token=a":     {`"tll"`, `"token"`, "ttl", "cache-dir", "linger"},
		"memory://u:hunter2@one:1/p?x=1":  {"user", "port", "path", `"x"`},
		"memory://one?ttl=1s&ttl=hunter2": {`"ttl"`, "once"},
	} {
		r, err := openers.Open(context.Background(), url)
		if r != nil || !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: Open returns %v, %v", url, r, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error %q does not contain %q", url, err, part)
			}
		}
		if strings.Contains(err.Error(), "hunter2@") || strings.Contains(url, ":hunter2@") && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error %q contains the password", url, err)
		}
	}
}

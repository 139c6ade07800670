package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	os.Exit(m.Run())
}

func TestRun_FollowsTheOperator(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"memory": func(*testing.T) string { return "memory://config-test" },
		"etcd":   func(t *testing.T) string { return "etcd://" + testbed.StartEtcd(t).Addr() },
		"consul": func(t *testing.T) string { return "consul://" + testbed.StartConsul(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(watchtest.Context(t), url(t), &out, operate)
			t.Logf("\n%s", &out)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"calls go to 3 of 3 servers, with a timeout of 5s", "calls go to 1 of 3 servers, with a timeout of 2s",
				"the last good one stays", "calls go to 3 of 3 servers, with a timeout of 1s", "the program is back", "calls, 0 failed",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
		})
	}
}

// The file that docs/config.md puts has an effect on the program that runs meanwhile.
func TestRun_FollowsTheFile(t *testing.T) {
	file, err := os.ReadFile("greeter.json")
	if err != nil {
		t.Fatal(err)
	}
	url := "consul://" + testbed.StartConsul(t).Addr()
	ctx, cancel := context.WithCancel(watchtest.Context(t))
	var out buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, url, &out, nil) }()
	watchtest.Eventually(t, "calls with the timeout of the program", func() bool { return strings.Contains(out.String(), "3 of 3 servers, with a timeout of 5s") })
	reg, err := openers.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if _, err := reg.PutValue(ctx, configKey, file, registry.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "calls with the timeout of the file", func() bool { return strings.Contains(out.String(), "3 of 3 servers, with a timeout of 2s") })
	cancel()
	if err := watchtest.Receive(t, "the program to end", done); err != nil {
		t.Error(err)
	}
}

// buffer is a [bytes.Buffer] for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	os.Exit(m.Run())
}

func TestQuickstart(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"embedded": func(*testing.T) string { return "memory://quickstart-test?ttl=500ms" },
		"etcd":     func(t *testing.T) string { return "etcd://" + testbed.StartEtcd(t).Addr() + "?ttl=5s" },
		"consul":   func(t *testing.T) string { return "consul://" + testbed.StartConsul(t).Addr() + "?ttl=3s" },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var out bytes.Buffer
			err := run(ctx, url(t), &out)
			t.Logf("\n%s", &out)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"all three answer", "has left the registry, finished its calls and stopped: 0 calls failed", "answers calls too",
				"crashes", "the registry has dropped it", "server   calls   errors",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
		})
	}
}

func TestAURLThatCannotBeOpened(t *testing.T) {
	if err := run(t.Context(), "zookeeper://h", io.Discard); err == nil || !strings.Contains(err.Error(), "consul, etcd, memory") {
		t.Errorf("it says %v", err)
	}
}

package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	os.Exit(m.Run())
}

func TestRun_ShowsWholeLifeOfService(t *testing.T) {
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

func TestRun_FailsIfRegistryDoesNotAnswer(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, backend := range []string{"consul", "etcd"} {
		for how, address := range map[string]string{"refuses": closed.Addr().String(), "does not answer": hanging.Addr().String()} {
			t.Run(backend+" "+how, func(t *testing.T) {
				var out bytes.Buffer
				ctx := watchtest.Context(t)
				err := run(ctx, backend+"://"+address, &out)
				if ctx.Err() != nil {
					t.Error("it waits without an end")
				}
				if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), address) {
					t.Errorf("it returns %v", err)
				}
				if out.Len() > 0 {
					t.Errorf("it says\n%s", &out)
				}
			})
		}
	}
}

func TestRun_RefusesURLThatCannotBeOpened(t *testing.T) {
	if err := run(t.Context(), "zookeeper://h", io.Discard); err == nil || !strings.Contains(err.Error(), "consul, etcd, memory") {
		t.Errorf("it says %v", err)
	}
}

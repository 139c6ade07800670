package main

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
)

func TestRun_ShowsWholeLifeOfService(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"embedded": func(*testing.T) string { return "memory://quickstart-http-test?ttl=1s" },
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
				"all three answer", "has left the registry, finished its requests and stopped: 0 requests failed", "answers requests too",
				"crashes", "two servers pass", "  failed\n",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
		})
	}
}

func TestRun_RefusesURLThatCannotBeOpened(t *testing.T) {
	if err := run(t.Context(), "zookeeper://h", io.Discard); err == nil || !strings.Contains(err.Error(), "consul, memory") {
		t.Errorf("it says %v", err)
	}
}

func TestProgram_ContainsNoGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rollcall/httpx") || strings.Contains(string(out), "google.golang.org/grpc") {
		t.Errorf("%v: %s", err, out)
	}
}

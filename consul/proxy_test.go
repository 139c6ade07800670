package consul

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A proxy that the environment names sees the token of a call over plain HTTP, as the package documentation warns, but it gets no call to
// an agent on this host. A process reads these variables once, so the calls are made in another process.
func TestProxy_SeesTheTokenOfPlainHTTP(t *testing.T) {
	const token = "0ddba11"
	if agent := os.Getenv("ROLLCALL_TEST_AGENT"); agent != "" {
		d, err := newDriver(Config{Address: agent, Token: registry.NewSecret(token)})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := d.Services(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
		return
	}
	var seen atomic.Int64
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("{}")) })
	agent := httptest.NewServer(answer)
	defer agent.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Consul-Token") == token {
			seen.Add(1)
		}
		answer(w, r)
	}))
	defer proxy.Close()
	for address, want := range map[string]bool{"consul.invalid:8500": true, strings.TrimPrefix(agent.URL, "http://"): false} {
		seen.Store(0)
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "ROLLCALL_TEST_AGENT="+address, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", address, err, out)
		}
		if got := seen.Load() > 0; got != want {
			t.Errorf("%s: the proxy has seen the token: %v, want %v", address, got, want)
		}
	}
}

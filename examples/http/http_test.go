// Package http_test runs the server program as a user would, on a real Consul.
package http_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

func TestServer_RegistersAndLeaves(t *testing.T) {
	agent := testbed.StartConsul(t)
	program := filepath.Join(t.TempDir(), "server")
	if out, err := exec.Command("go", "build", "-o", program, "./server").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "-registry", "consul://"+agent.Addr(), "-drain", "100ms")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	address := make(chan string, 1)
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "address="); ok {
				select {
				case address <- strings.Fields(rest)[0]:
				default:
				}
			}
		}
	}()
	at := watchtest.Receive(t, "the address of the server in its log", address)
	watchtest.Eventually(t, "the server in the registry", func() bool { return passing(t, agent.Addr()) == 1 })
	for path, want := range map[string]string{"/": "hello from " + at + "\n", "/ready": "ready\n"} {
		if got := get(t, "http://"+at+path); got != want {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-logged // all is read, and so Wait may close the pipe
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if n := passing(t, agent.Addr()); n != 0 {
		t.Errorf("it left %d entries", n)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// passing returns how many passing instances of the service the agent knows.
func passing(t *testing.T, agent string) int {
	t.Helper()
	var entries []json.RawMessage
	if err := json.Unmarshal([]byte(get(t, "http://"+agent+"/v1/health/service/web?passing=1")), &entries); err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

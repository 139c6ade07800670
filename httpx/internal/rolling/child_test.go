package rolling

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// childVariable tells this program to be a server, with a childSettings as JSON.
const childVariable = "ROLLCALL_TEST_HTTP_SERVER"

type childSettings struct {
	Registry string // its URL; "" if the parent registers the server
	Executed string // the file that gets a line for each request that is executed
}

// executionTime is how long a child executes a request, so that some are in flight when it is killed.
const executionTime = 5 * time.Millisecond

// runChild is the main function of a child. It ends when the process is killed, or its standard input ends.
func runChild(text string) {
	if err := childServe(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childServe(text string) error {
	var settings childSettings
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		return err
	}
	file, err := os.OpenFile(settings.Executed, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0) // the parent has ended
	}()
	fmt.Println(lis.Addr())
	srv := newHTTPServer(func(id string) {
		fmt.Fprintln(file, id)
		time.Sleep(executionTime)
	})
	if settings.Registry == "" {
		return srv.Serve(lis)
	}
	reg, err := openers.Open(context.Background(), settings.Registry)
	if err != nil {
		return err
	}
	s := serve.Service{Registrar: reg, Instance: registry.Instance{Service: service}}
	return s.Serve(context.Background(), srv, lis)
}

// child is a server in a process of its own.
type child struct {
	address    string
	executed   string // a file
	cmd        *exec.Cmd
	substitute *memory.Registry // has registered the server, if another process cannot reach the registry
}

func startChild(t *testing.T, b *backend) *child {
	t.Helper()
	c := &child{executed: filepath.Join(t.TempDir(), "executed"), cmd: exec.Command(os.Args[0])}
	settings, err := json.Marshal(childSettings{b.url, c.executed})
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childVariable+"="+string(settings)), os.Stderr
	if _, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill(t) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child does not say its address: %v", err)
	}
	c.address = strings.TrimSpace(line)
	if b.url == "" {
		c.substitute = b.store.Client()
		watchtest.Register(t, c.substitute, registry.Instance{Service: service, Address: c.address})
	}
	return c
}

// kill ends the process by SIGKILL, and blocks until it has ended.
func (c *child) kill(t *testing.T) {
	if c.cmd.ProcessState != nil {
		return
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = c.cmd.Wait() // says that the process was killed
	if c.substitute != nil {
		c.substitute.Crash()
	}
}

// addTo adds the requests that the child has executed to e.
func (c *child) addTo(t *testing.T, e *executions) (requests int) {
	t.Helper()
	text, err := os.ReadFile(c.executed)
	if err != nil {
		t.Fatal(err)
	}
	for id := range strings.Lines(string(text)) {
		e.add(strings.TrimSpace(id))
		requests++
	}
	return requests
}

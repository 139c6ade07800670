package testbed

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

const victim = "TESTBED_VICTIM" // set in the test binary that will be killed

// A test binary can be killed by a timeout of the go command. Then its server must end.
func TestStartEtcd_EndsWithKilledTestBinary(t *testing.T) {
	if os.Getenv(victim) != "" {
		if _, err := os.Stdout.WriteString("addr=" + StartEtcd(t).Addr() + "\n"); err != nil {
			t.Fatal(err)
		}
		select {} // until killed
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), victim+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	lines := bufio.NewScanner(out)
	for addr == "" && lines.Scan() {
		addr, _ = strings.CutPrefix(lines.Text(), "addr=")
		if addr == lines.Text() {
			addr = ""
		}
	}
	err = errors.Join(lines.Err(), cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	if addr == "" || err != nil {
		t.Fatalf("the other test binary did not start its server: %v", err)
	}
	watchtest.Eventually(t, "the server to stop listening on "+addr, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asProgram in the environment makes the test binary run main.
const asProgram = "QUICKSTART_AS_PROGRAM"

// TestMain_EndsOnASignal: the servers in the process must not keep a signal to themselves, or Ctrl-C would stop them alone.
func TestMain_EndsOnASignal(t *testing.T) {
	if os.Getenv(asProgram) != "" {
		os.Args = []string{"quickstart", "-registry", "memory://signal"}
		main()
		return
	}
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMain_EndsOnASignal$")
	program.Env = append(os.Environ(), asProgram+"=1")
	var complaint strings.Builder
	program.Stderr = &complaint
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	interrupted := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !interrupted && strings.Contains(lines.Text(), "all three answer") {
			interrupted = true
			if err := program.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(lines.Text(), "crashes") {
			t.Error("the story goes on after the signal")
		}
	}
	err = program.Wait()
	if !interrupted || err == nil || !strings.Contains(complaint.String(), "context canceled") {
		t.Errorf("it ends with %v, and says %q", err, &complaint)
	}
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// reapAsSubreaper is reapAround, around this program in another role, in a process that gets orphans as the first process of a
// container does.
func reapAsSubreaper(role string) int {
	const prSetChildSubreaper = 36 // of prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return 99
	}
	os.Setenv(roleVariable, role)
	return reapAround(os.Args)
}

// waitForReaped starts a process that leaves an orphan, and ends with code 5 when nothing is left of the orphan, not even a zombie.
func waitForReaped(file string) int {
	// The orphan is a background process of a shell that ends at once.
	if err := exec.Command("sh", "-c", "sleep 0.05 & echo $! >"+file).Run(); err != nil {
		return 98
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 97
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 96
	}
	for syscall.Kill(pid, 0) == nil { // a zombie takes signals
		time.Sleep(5 * time.Millisecond)
	}
	return 5
}

func TestReapAround_ReapsOrphans(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=reap", "ROLLCALL_TEST_FILE="+filepath.Join(t.TempDir(), "pid"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5 from the worker: %v\n%s", code, err, out)
	}
}

func TestReapAround_PassesSignalsOn(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=reap-sleeper "+ready)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the worker runs", func() bool { _, err := os.Stat(ready); return err == nil })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+15 {
		t.Errorf("exit code %d, want 143", code)
	}
}

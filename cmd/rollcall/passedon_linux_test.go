package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// Many servers read their configuration again, or open their log files again, by these signals.
func TestRegister_PassesOtherSignalsOn(t *testing.T) {
	dir := t.TempDir()
	exists := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	}
	// If the tests were started by nohup, they ignore SIGHUP, and the program would do so too, unless the signal is caught here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	script := "cd " + dir + "; trap 'touch HUP' HUP; trap 'touch USR1' USR1; trap 'touch USR2' USR2; touch ready; while :; do sleep 0.02; done"
	p := startProcess(t, "-r", "memory://", "register", "--service", "web", "--address", freeAddress(t), "--", "bash", "-c", script)
	watchtest.Eventually(t, "the traps are set", exists("ready"))
	for name, s := range map[string]syscall.Signal{"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2} {
		p.signal(t, s)
		watchtest.Eventually(t, "the program has got SIG"+name, exists(name))
	}
	p.signal(t, syscall.SIGTERM)
	if got := p.wait(); got.code != exitSignal+15 {
		t.Errorf("exit code %d, want 143: %s", got.code, got.stderr)
	}
}

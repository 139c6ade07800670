package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// freeAddress returns an address of this host that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startRegister runs `rollcall register` around a server at address, with dir for its messages.
func startRegister(t *testing.T, url, address, dir string, flags ...string) func() result {
	t.Helper()
	t.Setenv(roleVariable, "server "+address+" "+dir)
	args := append([]string{"-r", url, "register", "--service", "web", "--id", "w1", "--address", address, "--drain-delay", "20ms"}, flags...)
	_, stop := start(t, append(args, "--", os.Args[0])...)
	return stop
}

func statusOf(t *testing.T, reg registry.Discovery) string {
	t.Helper()
	set, err := reg.Lookup(t.Context(), registry.Query{Service: "web", AnyStatus: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(set) == 0 {
		return ""
	}
	return set[0].Status.String()
}

func TestRegister_DeregistersBeforeItSignalsTheProgram(t *testing.T) {
	reg, url := newStore(t)
	dir := t.TempDir()
	stop := startRegister(t, url, freeAddress(t), dir, "--check", "http:/", "--drain-delay", "1h")
	watchtest.Eventually(t, "the instance is registered", func() bool { return statusOf(t, reg) == "passing" })
	ended := make(chan result, 1)
	go func() { ended <- stop() }()
	watchtest.Eventually(t, "the instance is deregistered", func() bool { return statusOf(t, reg) == "" })
	terminated := filepath.Join(dir, "terminated")
	if _, err := os.Stat(terminated); err == nil {
		t.Error("the program got SIGTERM before the drain delay was over")
	}
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(os.Interrupt); err != nil { // a second signal ends the delay
		t.Fatal(err)
	}
	if got := <-ended; got.code != 0 {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	if _, err := os.Stat(terminated); err != nil {
		t.Error("the program got no SIGTERM:", err)
	}
}

func TestRegister_SaysHowTheCheckEnds(t *testing.T) {
	reg, url := newStore(t)
	dir := t.TempDir()
	startRegister(t, url, freeAddress(t), dir, "--check", "http:/", "--interval", "10ms")
	watchtest.Eventually(t, "the instance passes", func() bool { return statusOf(t, reg) == "passing" })
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the instance is critical", func() bool { return statusOf(t, reg) == "critical" })
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the instance passes again", func() bool { return statusOf(t, reg) == "passing" })
}

func TestRegister_ReturnsTheCodeOfTheProgram(t *testing.T) {
	_, url := newStore(t)
	t.Setenv(roleVariable, "exit")
	got := rollcall(t, "-r", url, "register", "--service", "web", "--address", freeAddress(t), "--", os.Args[0])
	wantError(t, got, 7, os.Args[0]+" ended with code 7 before it was registered")
}

func TestRegister_DeregistersAProgramThatEnds(t *testing.T) {
	reg, url := newStore(t)
	address := freeAddress(t)
	// The shell ends by a signal as soon as its standard input has ended.
	ready := filepath.Join(t.TempDir(), "go")
	script := fmt.Sprintf("%s & until [ -e %s ]; do sleep 0.02; done; kill $!; kill -9 $$", os.Args[0], ready)
	t.Setenv(roleVariable, "server "+address)
	done := make(chan result, 1)
	go func() {
		done <- rollcall(t, "-r", url, "register", "--service", "web", "--address", address, "--drain-delay", "1h", "--", "sh", "-c", script)
	}()
	watchtest.Eventually(t, "the instance is registered", func() bool { return statusOf(t, reg) == "passing" })
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the instance is deregistered", func() bool { return statusOf(t, reg) == "" })
	if got := <-done; got.code != 128+9 {
		t.Errorf("exit code %d, want 137: %s", got.code, got.stderr)
	}
}

func TestRegister_AProgramThatNeverAnswersIsStopped(t *testing.T) {
	reg, url := newStore(t)
	got := rollcall(t, "-r", url, "register", "--service", "web", "--address", freeAddress(t), "--start-timeout", "50ms", "--", "sleep", "60")
	wantError(t, got, exitNothing, "web does not pass its check within 50ms")
	if s := statusOf(t, reg); s != "" {
		t.Error("it was registered all the same, as", s)
	}
}

func TestRegister_KillsAProgramThatIgnoresSIGTERM(t *testing.T) {
	_, url := newStore(t)
	address := freeAddress(t)
	ready := filepath.Join(t.TempDir(), "ready")
	script := fmt.Sprintf("trap '' TERM; touch %s; while :; do sleep 0.05; done", ready)
	_, stop := start(t, "-r", url, "register", "--service", "web", "--address", address, "--stop-timeout", "50ms", "--", "sh", "-c", script)
	watchtest.Eventually(t, "the trap is set", func() bool { _, err := os.Stat(ready); return err == nil })
	if got := stop(); got.code != 128+9 {
		t.Errorf("exit code %d, want 137: %s", got.code, got.stderr)
	}
}

func TestRegister_GoesOnWhileTheRegistryIsAway(t *testing.T) {
	client, reg, url := newFaultyStore(t)
	client.Fail(registry.ErrUnavailable)
	address := freeAddress(t)
	startRegister(t, url, address, t.TempDir())
	watchtest.Eventually(t, "the program answers", func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	client.Heal()
	watchtest.Eventually(t, "the instance is registered", func() bool { return statusOf(t, reg) == "passing" })
}

// A denial is what the user must know, also if the program ends well when it is stopped.
func TestRegister_ReturnsTheDenial(t *testing.T) {
	for name, stops := range map[string]string{"a program that ends well": "exec 2>/dev/null; trap 'exit 0' TERM; while :; do sleep 0.02; done", "a program that a signal ends": "exec sleep 60"} {
		t.Run(name, func(t *testing.T) {
			client, _, url := newFaultyStore(t)
			client.RefuseWrites(registry.ErrDenied)
			l, err := net.Listen("tcp", "127.0.0.1:0") // the check passes
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got := rollcall(t, "-r", url, "register", "--service", "web", "--address", l.Addr().String(), "--", "sh", "-c", stops)
			wantError(t, got, exitUnreachable, "register web", "denied")
		})
	}
}

// A shell passes no signal on, so the server that it has started gets SIGTERM as well.
func TestRegister_SignalsTheGroupOfTheProgram(t *testing.T) {
	reg, url := newStore(t)
	address, dir := freeAddress(t), t.TempDir()
	t.Setenv(roleVariable, "server "+address+" "+dir)
	_, stop := start(t, "-r", url, "register", "--service", "web", "--address", address, "--drain-delay", "0s", "--", "sh", "-c", os.Args[0]+" & wait")
	watchtest.Eventually(t, "the instance is registered", func() bool { return statusOf(t, reg) == "passing" })
	if got := stop(); got.code != exitSignal+15 {
		t.Errorf("exit code %d, want 143 of the shell: %s", got.code, got.stderr)
	}
	watchtest.Eventually(t, "the server has got SIGTERM", func() bool { _, err := os.Stat(filepath.Join(dir, "terminated")); return err == nil })
}

// A program that waits for its standard input does not hang: it cannot read the terminal, which belongs to another process group.
func TestRegister_ItsProgramDoesNotReadTheTerminal(t *testing.T) {
	terminal, _ := newTerminal(t)
	defer func(before *os.File) { os.Stdin = before }(os.Stdin)
	os.Stdin = terminal
	_, url := newStore(t)
	got := rollcall(t, "-r", url, "register", "--service", "web", "--address", freeAddress(t), "--", "cat")
	wantError(t, got, exitFound, "cat ended with code 0 before it was registered")
}

func TestStartPause_GrowsToASecond(t *testing.T) {
	checks := 0
	for since := time.Duration(0); since < time.Minute; since += startPause(since) {
		checks++
		if p := startPause(since); p > time.Second || p < 100*time.Millisecond {
			t.Errorf("after %v the pause is %v", since, p)
		}
	}
	if first := startPause(0); first != 100*time.Millisecond {
		t.Errorf("the first pause is %v", first)
	}
	if checks > 75 {
		t.Errorf("%d checks in the first minute, want few more than 60", checks)
	}
}

func TestRegister_SaysWhyItIsNotRegistered(t *testing.T) {
	address := freeAddress(t)
	l, err := net.Listen("tcp", address) // answers the check in place of the program
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stderr := startWithErrors(t, "-r", "consul://"+closedPort(t), "register", "--service", "web", "--address", address, "--drain-delay", "0", "--", "sleep", "60")
	watchtest.Eventually(t, "the reason", func() bool { return strings.Contains(stderr.String(), "rollcall: operation failed, retrying") })
}

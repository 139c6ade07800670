package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// onTerminal runs the program in the background with a terminal as standard error. It returns what the terminal shows, and a function
// that stops the program and returns its exit code.
func onTerminal(t *testing.T, stdout *buffer, args ...string) (shown func() string, stop func() int) {
	t.Helper()
	terminal, shown := newTerminal(t)
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, stdout, terminal) }()
	ended := false
	stop = func() int { cancel(); ended = true; return <-code }
	t.Cleanup(func() {
		if !ended {
			stop()
		}
	})
	return shown, stop
}

func shows(t *testing.T, shown func() string, text string) {
	t.Helper()
	watchtest.Eventually(t, "the terminal shows "+text, func() bool { return strings.Contains(shown(), text) })
}

func TestWait_ShowsProgress(t *testing.T) {
	reg, url := newStore(t)
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g1", Address: "10.0.0.1:80"})
	shown, stop := onTerminal(t, &buffer{}, "-r", url, "wait", "greeter", "--passing", "2")
	shows(t, shown, eraseLine+"waiting for greeter: 1 of 2 pass")
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g2", Address: "10.0.0.2:80"})
	watchtest.Eventually(t, "the line is erased", func() bool { return strings.HasSuffix(shown(), eraseLine) })
	if code := stop(); code != exitFound {
		t.Errorf("exit code %d", code)
	}
}

func TestWait_SaysThatTheRegistryIsAway(t *testing.T) {
	shown, _ := onTerminal(t, &buffer{}, "-r", "consul://127.0.0.1:1", "wait", "greeter")
	shows(t, shown, "waiting for greeter: watch greeter: unavailable: ")
	for line := range strings.SplitSeq(shown(), eraseLine) {
		if n := len([]rune(line)); n >= columns {
			t.Errorf("%d columns, which would wrap: %q", n, line)
		}
	}
}

func TestRegister_ShowsProgress(t *testing.T) {
	reg, url := newStore(t)
	address := freeAddress(t)
	t.Setenv(roleVariable, "server "+address)
	shown, stop := onTerminal(t, &buffer{}, "-r", url, "register", "--service", "web", "--id", "w1", "--address", address,
		"--check", "http:/", "--drain-delay", "20ms", "--", os.Args[0])
	watchtest.Eventually(t, "the instance is registered", func() bool { return statusOf(t, reg) == "passing" })
	shows(t, shown, "registered web/w1")
	if code := stop(); code != exitFound {
		t.Errorf("exit code %d", code)
	}
	want := []string{"started " + os.Args[0] + ", waiting for its check: GET http://" + address + "/", "registering web in memory",
		"registered web/w1 at " + address, "deregistering", "waiting 20ms for clients to notice; another signal ends this",
		"sending SIGTERM to the program, SIGKILL follows after 10s", "the program has ended with code 0"}
	for _, step := range want {
		shows(t, shown, "rollcall: "+step)
	}
}

func TestRegister_ShowsThatItsProgramHasEnded(t *testing.T) {
	_, url := newStore(t)
	t.Setenv(roleVariable, "exit")
	shown, _ := onTerminal(t, &buffer{}, "-r", url, "register", "--service", "web", "--address", freeAddress(t), "--", os.Args[0])
	shows(t, shown, "the program has ended with code 7")
	if strings.Contains(shown(), "SIGTERM") {
		t.Errorf("a program that has ended gets no signal: %s", shown())
	}
}

// A name that a stranger has chosen must not control the terminal.
func TestProgress_QuotesEscapes(t *testing.T) {
	terminal, shown := newTerminal(t)
	a := &app{stderr: terminal}
	a.newProgress().say("waiting for %s", "a\x1b[2Jb")
	a.step("started %s", "a\x1b[2Jb")
	shows(t, shown, `rollcall: "started a\x1b[2Jb"`)
	shows(t, shown, `"waiting for a\x1b[2Jb"`)
	if strings.Contains(shown(), "\x1b[2J") {
		t.Errorf("the terminal got %q", shown())
	}
}

func TestProgress_WritesNothingElsewhere(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := &app{stderr: f}
	p := a.newProgress()
	p.say("waiting")
	p.end()
	a.step("started")
	if info, err := f.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("%v bytes were written, %v", info.Size(), err)
	}
}

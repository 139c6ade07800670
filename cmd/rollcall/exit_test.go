package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// newHangingServer returns the address of a server that accepts connections and never answers, and a channel that gets each connection.
func newHangingServer(t *testing.T) (address string, connected <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted, end := make(chan net.Conn, 64), make(chan struct{})
	go func() {
		defer close(end)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-end
		for len(accepted) > 0 {
			(<-accepted).Close()
		}
	})
	return l.Addr().String(), accepted
}

// interruptedCommands are the commands that can take long, with the arguments that have each wait for a server.
var interruptedCommands = map[string]string{
	"services":      "-r consul://ADDRESS services",
	"instances":     "-r consul://ADDRESS instances greeter",
	"watch":         "-r consul://ADDRESS watch greeter",
	"config get":    "-r consul://ADDRESS config get greeter",
	"config put":    "-r consul://ADDRESS config put greeter CONFIG",
	"config delete": "-r consul://ADDRESS config delete greeter",
	"config watch":  "-r consul://ADDRESS config watch greeter",
	"wait":          "-r consul://ADDRESS wait greeter",
	"sd":            "-r consul://ADDRESS sd --listen 127.0.0.1:0",
	"inspect":       "inspect http://ADDRESS/",
	"doctor":        "-r consul://ADDRESS doctor",
}

// A command that is interrupted says so in one line and exits with 128+n, unless a signal is its usual end.
func TestRun_EndsBySignals(t *testing.T) {
	for _, name := range registryCommands() {
		if _, ok := interruptedCommands[name]; !ok && name != "register" {
			t.Errorf("%s is not tested", name)
		}
	}
	config := configFile(t, "{}")
	for name, args := range interruptedCommands {
		for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(name+" "+sent.String(), func(t *testing.T) {
				t.Parallel()
				address, connected := newHangingServer(t)
				p := startProcess(t, strings.Fields(strings.NewReplacer("ADDRESS", address, "CONFIG", config).Replace(args))...)
				defer (<-connected).Close()
				if name == "doctor" {
					defer (<-connected).Close() // of the check agent; the first one is of the check tcp
				}
				p.signal(t, sent)
				got := p.wait()
				code, text := exitSignal+int(sent), "rollcall: interrupted\n"
				switch name {
				case "watch", "config watch":
					code, text = exitFound, ""
				case "sd":
					code, text = exitFound, got.stderr
				case "doctor":
					if n := strings.Count(got.stdout, "interrupted"); n != 1 || !strings.Contains(got.stdout, "not checked, because doctor was interrupted: agent, ") {
						t.Errorf("%d lines are about the interrupt, want one:\n%s", n, got.stdout)
					}
				}
				if got.code != code || got.stderr != text {
					t.Errorf("exit code %d, want %d; standard error %q, want %q", got.code, code, got.stderr, text)
				}
			})
		}
	}
}

// registryCommands returns the names of all commands that can be interrupted. It leaves out the commands of cobra, and config, which only
// groups other commands.
func registryCommands() []string {
	var names []string
	for _, c := range (&app{}).command().Commands() {
		if c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		if !c.HasSubCommands() {
			names = append(names, c.Name())
		}
		for _, below := range c.Commands() {
			names = append(names, c.Name()+" "+below.Name())
		}
	}
	return names
}

// process is a run of the program as a process of its own.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(testBinary(t), args...)}
	p.cmd.Env = append(os.Environ(), roleVariable+"=rollcall", "CONSUL_HTTP_TOKEN=")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

func (p *process) wait() result {
	_ = p.cmd.Wait() // the exit code is in ProcessState
	return result{p.cmd.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()}
}

// `register` exits as its program does after a signal, too.
func TestRun_ASignalEndsTheProgramOfRegister(t *testing.T) {
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ready := filepath.Join(t.TempDir(), "ready")
		p := startProcess(t, "-r", "memory://", "register", "--service", "web", "--address", freeAddress(t), "--", "sh", "-c", "touch "+ready+"; exec sleep 60")
		watchtest.Eventually(t, "the program runs", func() bool { _, err := os.Stat(ready); return err == nil })
		p.signal(t, sent)
		if got := p.wait(); got.code != exitSignal+int(syscall.SIGTERM) || got.stderr != "" {
			t.Errorf("%v: exit code %d, want 143: %q", sent, got.code, got.stderr)
		}
	}
}

// Output that cannot be written is an error of every command that writes some.
func TestRun_OutputThatCannotBeWritten(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	page := servePage(t, reg.Registry)
	for _, args := range []string{"services", "services -o jsonl", "instances greeter", "instances greeter -o addr", "instances greeter -o json",
		"watch greeter --changes", "inspect " + page, "doctor", "completion bash", "help", "--help"} {
		t.Run(args, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var stderr bytes.Buffer
			code := run(ctx, append([]string{"-r", url}, strings.Fields(args)...), brokenWriter{}, &stderr)
			if code != exitHost || stderr.String() != "rollcall: standard output: no space left on device\n" {
				t.Errorf("exit code %d, %q", code, stderr.String())
			}
		})
	}
}

// brokenWriter is a full disk.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// The table of exit codes in docs/command.md has each code, and no other.
func TestExitCodes_AreInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("exit.go")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{strconv.Itoa(exitSignal) + "+n": true}
	for _, m := range regexp.MustCompile(`(?m)^\texit\w+ += (\d+)`).FindAllStringSubmatch(string(source), -1) {
		if m[1] != strconv.Itoa(exitSignal) {
			want[m[1]] = true
		}
	}
	_, section, _ := strings.Cut(string(page), "\n## Exit codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	got := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+(?:\+n)?) \|`).FindAllStringSubmatch(section, -1) {
		got[m[1]] = true
	}
	for code := range want {
		if !got[code] {
			t.Errorf("the table lacks %s", code)
		}
	}
	for code := range got {
		if !want[code] {
			t.Errorf("the table has %s, which is not in the code", code)
		}
	}
	if len(want) < 8 {
		t.Errorf("the code has %d exit codes, want 8", len(want))
	}
}

// No text that a user or a registry has chosen controls the terminal.
func TestRun_EscapesWhatItEchoes(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	const clear = "\x1b[2J\u009b2J\n"
	const shown = `\x1b[2J`
	for name, args := range map[string][]string{
		"flag":            {"services", "--" + clear},
		"shorthand":       {"services", "-" + clear},
		"value":           {"services", "--timeout", clear},
		"form":            {"services", "-o", clear},
		"command":         {clear},
		"argument":        {"services", clear},
		"service":         {"instances", clear},
		"pair":            {"instances", "greeter", "--meta", clear},
		"address":         {"register", "--service", "web", "--address", clear, "--", "true"},
		"check":           {"register", "--service", "web", "--address", ":80", "--check", clear, "--", "true"},
		"program":         {"register", "--service", "web", "--address", ":80", "--", clear},
		"watched program": {"watch", "greeter", "--", clear},
		"page":            {"inspect", "http://127.0.0.1:1/" + clear},
		"file":            {"sd", "--file", clear},
		"file name":       {"sd", "--service", "greeter", "--file", "/no/such/" + clear + ".json"},
		"listen":          {"sd", "--listen", clear},
		"doctor":          {"doctor", "--service", clear},
		"registry":        {"-r", clear + "://", "services"},
	} {
		t.Run(name, func(t *testing.T) {
			got := rollcall(t, append([]string{"-r", url}, args...)...)
			if got.code == exitFound || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("exit code %d; standard error, which must be one line: %q", got.code, got.stderr)
			}
			if strings.ContainsAny(got.stderr, "\x1b\u009b") {
				t.Errorf("the terminal gets %q", got.stderr)
			}
			if name != "registry" && name != "shorthand" && name != "page" && !strings.Contains(got.stderr, shown) {
				t.Errorf("%q does not show %s", got.stderr, shown)
			}
		})
	}
}

// What the registry answers reaches the terminal without its escapes.
func TestRun_EscapesWhatTheRegistrySays(t *testing.T) {
	url := consulAnswers(t, func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "\x1b[2Jno", http.StatusInternalServerError)
		return true
	})
	for _, args := range []string{"services", "instances greeter", "wait greeter --timeout 100ms"} {
		got := rollcall(t, append([]string{"-r", url}, strings.Fields(args)...)...)
		if got.code != exitUnreachable || strings.Contains(got.stdout+got.stderr, "\x1b") {
			t.Errorf("%s: exit code %d, %q", args, got.code, got.stderr)
		}
	}
}

func TestPrintable_EscapesSingleCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"größe \"1\" a\\b": "größe \"1\" a\\b", "a\x1b[2J": `a\x1b[2J`, "a\u009bb": `a\u009bb`, "a\xffb": `a\xffb`, "a\n\n\tb": "a b", "\u202e": `\u202e`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

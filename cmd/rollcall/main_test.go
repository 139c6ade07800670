package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// roleVariable makes the test binary act as a program that the tests start.
const roleVariable = "ROLLCALL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role, argument, _ := strings.Cut(os.Getenv(roleVariable), " "); role {
	case "server":
		serve(argument)
		return
	case "rollcall":
		main()
	case "exit":
		os.Exit(7)
	case "reap":
		os.Exit(reapAsSubreaper("worker " + os.Getenv("ROLLCALL_TEST_FILE")))
	case "reap-sleeper":
		os.Exit(reapAsSubreaper("sleeper " + argument))
	case "worker":
		os.Exit(waitForReaped(argument))
	case "sleeper":
		_ = os.WriteFile(argument, nil, 0o600)
		time.Sleep(time.Minute) // a signal ends it
		return
	case "":
	default:
		panic("no such role: " + role)
	}
	goleak.VerifyTestMain(m)
}

// serve answers HTTP at address until SIGTERM: 200 while the file address+".ok" does not exist, and 500 otherwise.
func serve(argument string) {
	address, dir, _ := strings.Cut(argument, " ")
	l, err := net.Listen("tcp", address)
	if err != nil {
		os.Exit(9)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		if dir != "" {
			_ = os.WriteFile(filepath.Join(dir, "terminated"), nil, 0o600)
		}
		s.Close()
	}()
	_ = s.Serve(l)
}

// result is what one run of the program has left.
type result struct {
	code           int
	stdout, stderr string
}

func rollcall(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// start runs the program in the background until stop is called, which returns its result.
func start(t *testing.T, args ...string) (out *buffer, stop func() result) {
	t.Helper()
	return startWith(t, &buffer{}, args...)
}

// startWithErrors is start for what the program writes to standard error.
func startWithErrors(t *testing.T, args ...string) (stderr *buffer) {
	t.Helper()
	stderr = &buffer{}
	startWith(t, stderr, args...)
	return stderr
}

func startWith(t *testing.T, stderr *buffer, args ...string) (out *buffer, stop func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out = &buffer{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, out, stderr) }()
	stop = sync.OnceValue(func() result {
		cancel()
		return result{<-code, out.String(), stderr.String()}
	})
	t.Cleanup(func() { stop() })
	return out, stop
}

// buffer is a [bytes.Buffer] for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newStore returns a registry of its own and its URL.
func newStore(t *testing.T) (*memory.Registry, string) {
	t.Helper()
	name := strings.ToLower(regexp.MustCompile("[^A-Za-z0-9]").ReplaceAllString(t.Name(), "-"))
	reg := memory.Named(name)
	t.Cleanup(func() { reg.Close() })
	return reg, "memory://" + name
}

// newFaultyStore is newStore, with faults for the program: it uses the client that is returned.
func newFaultyStore(t *testing.T) (client *memory.Registry, other *memory.Registry, url string) {
	t.Helper()
	other, url = newStore(t)
	scheme, name, _ := strings.Cut(url, "://")
	client = memory.Named(name)
	scheme += "-" + name
	openers[scheme] = func(context.Context, *neturl.URL) (*registry.Registry, error) { return client.Registry, nil }
	t.Cleanup(func() { delete(openers, scheme) })
	return client, other, scheme + "://"
}

// greeters registers two instances, of which one passes.
func greeters(t *testing.T, reg registry.Registrar) {
	t.Helper()
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g1", Address: "10.0.0.1:80", Version: "1.2", Zone: "a", Tags: []string{"blue"}})
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g2", Address: "10.0.0.2:80", Status: registry.Critical,
		Weight: registry.Drained, Metadata: map[string]string{"note": "a\tb"}})
}

func want(t *testing.T, got result, code int, stdout string) {
	t.Helper()
	if got.code != code || got.stdout != stdout {
		t.Errorf("exit code %d, want %d; standard output\n%s\nwant\n%s\nstandard error: %s", got.code, code, got.stdout, stdout, got.stderr)
	}
}

func wantError(t *testing.T, got result, code int, parts ...string) {
	t.Helper()
	if got.code != code || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d, want %d; standard error, which must be one line: %q", got.code, code, got.stderr)
	}
	for _, p := range parts {
		if !strings.Contains(got.stderr, p) {
			t.Errorf("standard error %q does not have %q", got.stderr, p)
		}
	}
}

func TestServices_CountsInstances(t *testing.T) {
	reg, url := newStore(t)
	wantError(t, rollcall(t, "-r", url, "services"), exitNothing, "no service has an instance that passes")
	greeters(t, reg)
	want(t, rollcall(t, "-r", url, "services"), exitFound, "SERVICE  PASSING/ALL\ngreeter  1/2\n")
	want(t, rollcall(t, "-r", url, "services", "-o", "jsonl"), exitFound, `{"service":"greeter","passing":1,"all":2}`+"\n")
}

func TestServices_NamesTheRegistryByTheEnvironment(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	t.Setenv(registryVariable, url)
	want(t, rollcall(t, "services"), exitFound, "SERVICE  PASSING/ALL\ngreeter  1/2\n")
}

func TestInstances_Forms(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	for args, stdout := range map[string]string{
		"":              "ID  ADDRESS      STATUS   VERSION  ZONE\ng1  10.0.0.1:80  passing  1.2      a\n",
		"--tag blue":    "ID  ADDRESS      STATUS   VERSION  ZONE\ng1  10.0.0.1:80  passing  1.2      a\n",
		"--all":         "ID  ADDRESS      STATUS    VERSION  ZONE\ng1  10.0.0.1:80  passing   1.2      a\ng2  10.0.0.2:80  critical  -        -\n",
		"-o addr":       "10.0.0.1:80\n",
		"-o addr --all": "10.0.0.1:80\n10.0.0.2:80\n",
		"-o wide --all": `ID  ADDRESS      STATUS    VERSION  ZONE  WEIGHT   TAGS  ENDPOINTS  METADATA
g1  10.0.0.1:80  passing   1.2      a     1        blue  -          -
g2  10.0.0.2:80  critical  -        -     drained  -     -          "note=a\tb"
`,
		"-o jsonl": `{"id":"g1","service":"greeter","address":"10.0.0.1:80","version":"1.2","zone":"a","tags":["blue"],"weight":1}` + "\n",
	} {
		t.Run(args, func(t *testing.T) {
			want(t, rollcall(t, append([]string{"-r", url, "instances", "greeter"}, strings.Fields(args)...)...), exitFound, stdout)
		})
	}
}

func TestInstances_JSONIsAnArray(t *testing.T) {
	reg, url := newStore(t)
	got := rollcall(t, "-r", url, "instances", "greeter", "-o", "json")
	if got.stdout != "[]\n" || got.code != exitNothing {
		t.Errorf("of nothing: exit code %d, %q", got.code, got.stdout)
	}
	greeters(t, reg)
	var set []registry.Instance
	if err := json.Unmarshal([]byte(rollcall(t, "-r", url, "instances", "greeter", "-o", "json", "-a").stdout), &set); err != nil || len(set) != 2 {
		t.Errorf("got %v, %v", set, err)
	}
}

func TestRun_ReturnsExitCodes(t *testing.T) {
	reg, url := newStore(t)
	watchtest.Register(t, reg, registry.Instance{Service: "broken", Address: "10.0.0.1:80", Status: registry.Critical})
	for _, c := range []struct {
		args  string
		code  int
		parts []string
	}{
		{"-r " + url + " instances broken", exitNothing, []string{"broken has no instance that passes and matches; --all shows the others"}},
		{"-r " + url + " instances none --all", exitNothing, []string{"none has no instance that matches"}},
		{"-r " + url + " instances a/b", exitUsage, []string{`Service`, `"a/b"`}},
		{"-r " + url + " instances", exitUsage, []string{"SERVICE is missing"}},
		{"-r " + url + " instances a b", exitUsage, []string{`"b" is one argument too many, after SERVICE`}},
		{"-r " + url + " services a", exitUsage, []string{`"a" is one argument too many: services takes none`}},
		{"inspect", exitUsage, []string{"URL is missing"}},
		{"help frobnicate", exitUsage, []string{`unknown command "frobnicate"`}},
		{"completion frobnicate", exitUsage, []string{`unknown command "frobnicate" for "rollcall completion"`}},
		{"-r " + url + " instances broken --meta x", exitUsage, []string{`--meta: "x" is not KEY=VALUE`}},
		{"-r " + url + " instances broken -o yaml", exitUsage, []string{`"yaml" is none of [table wide json jsonl addr]`}},
		{"-r " + url + " frobnicate", exitUsage, []string{`unknown command "frobnicate"`}},
		{"-r " + url + " services --frobnicate", exitUsage, []string{"unknown flag: --frobnicate"}},
		{"services", exitUsage, []string{"no registry: set -r or the environment variable ROLLCALL_REGISTRY"}},
		{"-r zookeeper://127.0.0.1 services", exitUsage, []string{"-r: ", `"zookeeper"`, "consul, etcd, memory"}},
		{"-r consul://127.0.0.1:1 services", exitUnreachable, []string{"127.0.0.1:1", "refused"}},
		{"-r etcd://127.0.0.1:1 instances greeter", exitUnreachable, []string{"127.0.0.1:1"}},
		{"-r " + url + " wait broken --passing 0", exitUsage, []string{"--passing: 0 is less than 1"}},
		{"-r " + url + " wait broken --timeout 200ms", exitNothing, []string{"broken: gave up waiting: 0 of 1 instances pass"}},
		{"-r consul://127.0.0.1:1 wait broken --timeout 200ms", exitUnreachable, []string{"broken: gave up waiting", "refused"}},
		{"-r " + url + " watch", exitUsage, []string{"one SERVICE is needed"}},
		{"-r " + url + " register --service s --address :80", exitUsage, []string{"a command is needed after --"}},
		{"-r " + url + " register --service s --address 80 -- true", exitUsage, []string{"Address", `"80"`}},
		{"-r " + url + " register --service s --address :80 --check ping -- true", exitUsage, []string{`--check: "ping" is neither tcp nor http:/PATH`}},
		{"-r " + url + " register --service s --address :80 -- /no/such/program", exitNotFound, []string{"/no/such/program"}},
		{"-r " + url + " sd", exitUsage, []string{"one of --listen and --file is needed"}},
		{"-r " + url + " sd --file targets.txt", exitUsage, []string{"--file", `"targets.txt"`, ".json, .yml, .yaml"}},
		{"-r " + url + " sd --listen 9301", exitUsage, []string{"--listen", `"9301"`, "HOST:PORT"}},
		{"-r " + url + " sd --listen 192.0.2.1:1", exitHost, []string{"--listen", "192.0.2.1:1"}},
		{"-r " + url + " watch broken --changes -- true", exitUsage, []string{"--changes"}},
		{"-r " + url + " register --service s --address :80 -- no-such-program", exitNotFound, []string{`"no-such-program"`, "not found"}},
		{"-r " + url + " register --service s --address :80 -- /", exitNotRunnable, []string{`cannot run "/"`}},
		{"-r " + url + " instance broken", exitUsage, []string{`unknown command "instance" for "rollcall"; did you mean instances`}},
		{"-r " + url + " sd --listen :0 --service a/b", exitUsage, []string{"--service", `"a/b"`}},
	} {
		t.Run(c.args, func(t *testing.T) {
			wantError(t, rollcall(t, strings.Fields(c.args)...), c.code, c.parts...)
		})
	}
}

func TestOpen_ShowsNoSecret(t *testing.T) {
	for _, url := range []string{"consul://user:hunter2@127.0.0.1:1/?token=hunter2", "etcd://user:hunter2@127.0.0.1:1", "consul://u:hun#ter2@h/"} {
		for _, args := range [][]string{{"services"}, {"-v", "services"}, {"wait", "s", "--timeout", "50ms"}} {
			got := rollcall(t, append([]string{"-r", url}, args...)...)
			if strings.Contains(got.stderr+got.stdout, "ter2") {
				t.Errorf("%q %v: %s%s", url, args, got.stdout, got.stderr)
			}
		}
	}
}

func TestWatch_WritesALineForEachChange(t *testing.T) {
	reg, url := newStore(t)
	r := watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g1", Address: "10.0.0.1:80"})
	out, stop := start(t, "-r", url, "watch", "greeter", "--all")
	has := func(pattern string) {
		t.Helper()
		re := regexp.MustCompile(`(?m)^\S+ ` + pattern + `$`)
		watchtest.Eventually(t, pattern, func() bool { return re.MatchString(out.String()) })
	}
	has(`\+ g1 10\.0\.0\.1:80 passing`)
	if err := r.Update(t.Context(), registry.Instance{Address: "10.0.0.1:80", Status: registry.Critical}); err != nil {
		t.Fatal(err)
	}
	has(`~ g1 10\.0\.0\.1:80 critical`)
	if err := r.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	has(`- g1 10\.0\.0\.1:80 critical`)
	if got := stop(); got.code != exitFound {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}

func TestWatch_SaysThatTheRegistryIsAway(t *testing.T) {
	_, url := newStore(t)
	out, stop := start(t, "-r", "consul://127.0.0.1:1", "watch", "greeter")
	watchtest.Eventually(t, "a line with !", func() bool { return strings.Contains(out.String(), " ! ") })
	if got := stop(); got.code != exitFound || strings.Contains(got.stdout, " - ") {
		t.Errorf("exit code %d: %s", got.code, got.stdout)
	}
	_ = url
}

func TestWatch_RunsACommandOnEachSet(t *testing.T) {
	reg, url := newStore(t)
	out, _ := start(t, "-r", url, "watch", "greeter", "--", "cat")
	watchtest.Eventually(t, "the empty set", func() bool { return strings.HasPrefix(out.String(), "[]") })
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g1", Address: "10.0.0.1:80"})
	watchtest.Eventually(t, "the instance", func() bool {
		return strings.Contains(out.String(), `[{"id":"g1","service":"greeter","address":"10.0.0.1:80","weight":1}]`)
	})
}

func TestWatch_ACommandThatDoesNotExistEndsIt(t *testing.T) {
	_, url := newStore(t)
	wantError(t, rollcall(t, "-r", url, "watch", "greeter", "--", "/no/such/program"), exitNotFound, `cannot run "/no/such/program": no such file or directory`)
}

func TestLiveTable_DrawsTheSetAnew(t *testing.T) {
	var out bytes.Buffer
	l := &liveTable{a: &app{stdout: &out}, title: "greeter in memory"}
	set := []*registry.Instance{{ID: "g1", Service: "greeter", Address: "10.0.0.1:80"}}
	if err := l.show(set, &registry.Error{Op: "watch", Service: "greeter", Err: registry.ErrUnavailable}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{clearScreen + "greeter in memory", "watch greeter: unavailable", "g1  10.0.0.1:80  passing"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q does not have %q", out.String(), part)
		}
	}
}

func TestWait_ReturnsWhenEnoughPass(t *testing.T) {
	reg, url := newStore(t)
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g1", Address: "10.0.0.1:80"})
	done := make(chan result, 1)
	go func() { done <- rollcall(t, "-r", url, "wait", "greeter", "--passing", "2") }()
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "g2", Address: "10.0.0.2:80"})
	want(t, <-done, exitFound, "")
}

func TestWait_WithoutAnAnswerSaysSo(t *testing.T) {
	client, _, url := newFaultyStore(t)
	client.Hang()
	wantError(t, rollcall(t, "-r", url, "wait", "greeter", "--timeout", "200ms"), exitUnreachable, "greeter: gave up waiting: no answer from memory")
}

func TestCompletion_NamesServices(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	got := rollcall(t, "__complete", "-r", url, "instances", "")
	if !strings.HasPrefix(got.stdout, "greeter\n") {
		t.Errorf("got %q", got.stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := rollcall(t, "completion", shell); got.code != exitFound || len(got.stdout) < 1000 {
			t.Errorf("%s: exit code %d, %d bytes", shell, got.code, len(got.stdout))
		}
	}
}

func TestTables_FitEightyColumns(t *testing.T) {
	var out bytes.Buffer
	set := []*registry.Instance{{ID: "greeter-10.20.30.40-50051", Address: "10.20.30.40:50051", Version: "v1.23.4", Zone: "eu-west-1a", Status: registry.Maintenance}}
	if err := writeInstances(&out, set, formatTable, true); err != nil {
		t.Fatal(err)
	}
	seen := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(out.String(), "")
	lines := strings.Split(strings.TrimSuffix(seen, "\n"), "\n")
	for _, l := range lines {
		if len(l) > 80 {
			t.Errorf("%d columns: %q", len(l), l)
		}
	}
	if at := strings.Index(lines[0], "VERSION"); at < 0 || !strings.HasPrefix(lines[1][at:], "v1.23.4") {
		t.Errorf("colours disturb the columns:\n%s", seen)
	}
}

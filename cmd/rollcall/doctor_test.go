package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// diagnosis is what one run of the doctor has found.
type diagnosis struct {
	code     int
	findings map[string]finding
	stderr   string
}

// examine runs the doctor.
func examine(t *testing.T, args ...string) diagnosis {
	t.Helper()
	got := rollcall(t, append([]string{"doctor", "-o", "json"}, args...)...)
	return readDiagnosis(t, got)
}

func readDiagnosis(t *testing.T, got result) diagnosis {
	t.Helper()
	var all []finding
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil {
		t.Fatalf("%v: %q, standard error %q", err, got.stdout, got.stderr)
	}
	d := diagnosis{got.code, map[string]finding{}, got.stderr}
	for _, f := range all {
		if (f.Result == outcomeWarning || f.Result == outcomeFailed) != (f.Hint != "" && f.Link != "") {
			t.Errorf("%s: a hint and a link belong to what is not fine, and to nothing else: %+v", f.Check, f)
		}
		d.findings[f.Check] = f
	}
	return d
}

// has checks one finding: its outcome, a part of the fact, and a part of the hint or the link.
func (d diagnosis) has(t *testing.T, check string, want outcome, fact, hint string) {
	t.Helper()
	f, ok := d.findings[check]
	if !ok || f.Result != want || !strings.Contains(f.Fact, fact) || !strings.Contains(f.Hint+" "+f.Link, hint) {
		t.Errorf("%s: got %+v, want %s, %q, %q", check, f, want, fact, hint)
	}
}

func (d diagnosis) exits(t *testing.T, code int) {
	t.Helper()
	if d.code != code {
		t.Errorf("exit code %d, want %d: %s", d.code, code, d.stderr)
	}
}

// closedPort returns the address of a port on this host that nothing listens at.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// headings returns the anchors of a Markdown file.
func headings(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return r
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.ToLower(m[1]))] = true
	}
	return all
}

func TestDoctor_LinksLeadToHeadings(t *testing.T) {
	if len(allAdvice) < 40 {
		t.Errorf("%d hints, want more", len(allAdvice))
	}
	for _, a := range allAdvice {
		file, heading, _ := strings.Cut(a.link, "#")
		if !headings(t, file)[heading] {
			t.Errorf("%q: %s leads to no heading", a.text, a.link)
		}
	}
}

// Each check has a heading in docs/command.md, and each line of the output there is one of a check.
func TestDoctor_ChecksAreInTheDocs(t *testing.T) {
	all := map[string]bool{"url": true}
	for _, target := range []*checkTarget{{addresses: []string{"h:1"}, agents: []*agentClient{{}}}, {addresses: []string{"h:1"}, members: []*member{{}}}} {
		d := newDoctor(nil, doctorFlags{})
		d.target = target
		for _, c := range d.checks() {
			all[c.name] = true
		}
	}
	anchors := headings(t, "docs/command.md")
	for name := range all {
		if !anchors["doctor-"+name] {
			t.Errorf("docs/command.md has no heading %q", "Doctor: "+name)
		}
	}
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^[✓!✗-] (\S+)  `).FindAllStringSubmatch(string(text), -1)
	for _, m := range lines {
		if !all[m[1]] && m[1] != "…" {
			t.Errorf("docs/command.md shows a check %q, which does not exist", m[1])
		}
	}
	if len(lines) < 10 {
		t.Errorf("docs/command.md shows %d checks, want more", len(lines))
	}
}

func TestDoctor_FitsEightyColumns(t *testing.T) {
	var out bytes.Buffer
	d := newDoctor(&app{stdout: &out}, doctorFlags{})
	for _, a := range allAdvice {
		f := failed(advice{strings.ReplaceAll(a.text, "%s", "rollcall-doctor-"), a.link}, "%s", strings.Repeat("fact ", 40))
		f.Check = "connections"
		d.findings = append(d.findings, f)
	}
	if err := d.write(formatTable); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > reportWidth {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestDoctor_TableHasASignForEachCheck(t *testing.T) {
	_, url := newStore(t)
	got := rollcall(t, "-r", url, "doctor")
	if got.code != exitFound || !regexp.MustCompile(`(?m)\A✓ url      memory .*\n✓ write    registered in .*\n`).MatchString(got.stdout) {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	got = rollcall(t, "-r", "consul://"+closedPort(t), "doctor")
	for _, part := range []string{"\n✗ tcp", "connection refused\n", "→ Nothing listens there", "docs/command.md#doctor-tcp\n",
		"- …        not checked, because tcp failed: tls, agent,", "The links are below " + docsURL} {
		if !strings.Contains(got.stdout, part) {
			t.Errorf("there is no %q in\n%s", part, got.stdout)
		}
	}
	if got.code != exitUnreachable || got.stderr != "rollcall: doctor: failed: tcp\n" {
		t.Errorf("exit code %d, %q", got.code, got.stderr)
	}
}

func TestDoctor_ExitCodes(t *testing.T) {
	_, url := newStore(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, code := range map[string]int{
		"-r " + url:                        exitFound,
		"-r " + url + " --no-write":        exitFound,
		"-r " + url + " --timeout 1ns":     exitNothing,
		"-r " + url + " --timeout 0s":      exitUsage,
		"-r " + url + " --service a/b":     exitUsage,
		"-r " + url + " more":              exitUsage,
		"":                                 exitUsage,
		"-r zookeeper://h":                 exitUsage,
		"-r consul://127.0.0.1:1?ttl=zero": exitUsage,
		"-r etcd://127.0.0.1:1":            exitUnreachable,
		"-r consul://" + closedPort(t) + "?cache-dir=" + file: exitUnreachable,
	} {
		if got := rollcall(t, append([]string{"doctor"}, strings.Fields(args)...)...); got.code != code {
			t.Errorf("%q: exit code %d, want %d: %s%s", args, got.code, code, got.stdout, got.stderr)
		}
	}
}

func TestDoctor_NamesWhatIsWrongWithTheURL(t *testing.T) {
	d := examine(t, "-r", "consul://127.0.0.1:8500/?ttl=1s&dcc=x", "--no-write")
	d.has(t, "url", outcomeFailed, "ttl", "scheme://host:port")
	d.has(t, "url", outcomeFailed, `"dcc"`, "command.md#doctor-url")
	if len(d.findings) != 1 {
		t.Errorf("other checks were made: %v", d.findings)
	}
	d = examine(t, "-r", "consul://"+closedPort(t)+"/?token=hunter2")
	d.has(t, "url", outcomeWarning, "token from the URL; a secret is in the command line", "ROLLCALL_REGISTRY")
	t.Setenv(registryVariable, "consul://"+closedPort(t)+"/?token=hunter2&dc=dc7")
	examine(t).has(t, "url", outcomePassed, "dc dc7; token from the URL", "")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv(registryVariable, "consul://"+closedPort(t))
	examine(t).has(t, "url", outcomeFailed, "TokenFile", "")
}

// doctorWith runs the checks of a URL after change has replaced what a test cannot have from the system.
func doctorWith(t *testing.T, url string, change func(*doctor)) diagnosis {
	t.Helper()
	var out, stderr bytes.Buffer
	d := newDoctor(&app{stdout: &out, stderr: &stderr, url: url}, doctorFlags{timeout: time.Minute, noWrite: true})
	change(d)
	if err := d.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.write(formatJSON); err != nil {
		t.Fatal(err)
	}
	code := exitFound
	if err := d.verdict(); err != nil {
		code = exitCode(err)
	}
	return readDiagnosis(t, result{code, out.String(), stderr.String()})
}

func TestDoctor_Name(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler()) // at 127.0.0.1
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	resolvesTo := func(ips ...string) func(*doctor) {
		return func(d *doctor) {
			d.lookup = func(context.Context, string) (all []netip.Addr, err error) {
				for _, ip := range ips {
					all = append(all, netip.MustParseAddr(ip))
				}
				return all, nil
			}
		}
	}
	url := "etcd://localhost:" + port + "?dial-timeout=100ms"
	d := doctorWith(t, url, resolvesTo("::1", "127.0.0.1"))
	d.has(t, "name", outcomeWarning, "localhost is ::1 first, and nothing listens there", "Write 127.0.0.1 in place of localhost")
	d.has(t, "tcp", outcomePassed, "accepts", "")
	doctorWith(t, url, resolvesTo("127.0.0.1", "::1")).has(t, "name", outcomePassed, "127.0.0.1, ::1", "")
	d = doctorWith(t, url, resolvesTo())
	d.has(t, "name", outcomeFailed, "localhost does not resolve: it has no address", "getent hosts")
	d.has(t, "tcp", outcomeSkipped, "because name failed", "")
	d.exits(t, exitUnreachable)
	d = doctorWith(t, url, func(d *doctor) {
		d.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, &net.DNSError{Err: "no such host"} }
	})
	d.has(t, "name", outcomeFailed, "no such host", "")
}

func TestDoctor_TCP(t *testing.T) {
	closed := closedPort(t)
	d := examine(t, "-r", "consul://"+closed)
	d.has(t, "tcp", outcomeFailed, closed+": connection refused", "Nothing listens there")
	d.has(t, "write", outcomeSkipped, "because tcp failed", "")
	d.exits(t, exitUnreachable)
	examine(t, "-r", "consul:///?address=unix:///no/such/socket").has(t, "tcp", outcomeFailed, "no such file", "Nothing listens there")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d = doctorWith(t, "consul://"+closed+","+l.Addr().String(), func(d *doctor) { d.f.timeout = time.Second })
	d.has(t, "tcp", outcomeWarning, "1 of 2: "+closed, "The others are used meanwhile")
}

// consulAnswers is a server that answers as Consul does, except for what answer changes. It reports whether it has answered.
func consulAnswers(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer != nil && answer(w, r) {
			return
		}
		w.Header().Set("X-Consul-Default-Acl-Policy", "allow")
		switch r.URL.Path {
		case "/v1/agent/version":
			fmt.Fprint(w, `{"HumanVersion":"1.99.0"}`)
		case "/v1/status/leader":
			fmt.Fprint(w, `"10.0.0.1:8300"`)
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(s.Close)
	return "consul://" + s.Listener.Addr().String()
}

func TestDoctor_AgentThatIsNoAgent(t *testing.T) {
	for name, c := range map[string]struct {
		answer     func(w http.ResponseWriter, r *http.Request) bool
		fact, hint string
	}{
		"another server": {func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }, "404", "HTTP address of Consul"},
		"a gateway": {func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}, "403 no", "user:password@"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://else.test/x", http.StatusFound)
			return true
		}, "else.test", "consul.md#a-redirect"},
		"too many clients": {func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "too many concurrent connections", http.StatusTooManyRequests)
			return true
		}, "too many", "consul.md#an-agent-takes-200"},
	} {
		t.Run(name, func(t *testing.T) {
			d := examine(t, "-r", consulAnswers(t, c.answer))
			d.has(t, "agent", outcomeFailed, c.fact, c.hint)
			d.has(t, "leader", outcomeSkipped, "because agent failed", "")
			d.exits(t, exitUnreachable)
		})
	}
}

func TestDoctor_Clock(t *testing.T) {
	for offset, text := range map[time.Duration]string{-time.Hour: "behind", time.Hour: "ahead of"} {
		d := examine(t, "--no-write", "-r", consulAnswers(t, func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(offset).UTC().Format(http.TimeFormat))
			return false
		}))
		d.has(t, "clock", outcomeWarning, "1h0m", "NTP")
		d.has(t, "clock", outcomeWarning, text, "")
	}
	examine(t, "--no-write", "-r", consulAnswers(t, func(http.ResponseWriter, *http.Request) bool { return false })).has(t, "clock", outcomePassed, "", "")
}

func TestDoctor_LastContactOfTheLeader(t *testing.T) {
	contact := func(age, known string) string {
		return consulAnswers(t, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X-Consul-LastContact", age)
			w.Header().Set("X-Consul-KnownLeader", known)
			return false
		})
	}
	examine(t, "--no-write", "-r", contact("60000", "true")).has(t, "leader", outcomeWarning, "1m0s ago", "network between the servers")
	examine(t, "--no-write", "-r", contact("60000", "false")).has(t, "leader", outcomeFailed, "knows no leader", "majority")
	examine(t, "--no-write", "-r", contact("20", "true")).has(t, "leader", outcomePassed, "20ms ago", "")
}

func TestDoctor_Address(t *testing.T) {
	_, url := newStore(t)
	for _, c := range []struct {
		address string
		err     error
		want    outcome
		fact    string
	}{
		{"127.0.0.1:8080", nil, outcomeWarning, "no other host reaches it"},
		{"", errors.New("this host has no address yet"), outcomeFailed, "no address yet"},
		{"10.7.7.7:8080", nil, outcomePassed, "10.7.7.7"},
	} {
		d := doctorWith(t, url, func(d *doctor) {
			d.advertised = func(context.Context, string) (string, error) { return c.address, c.err }
		})
		d.has(t, "address", c.want, c.fact, "")
	}
	if got, err := advertisedAddress(t.Context(), "127.0.0.1:8500"); err != nil || !strings.HasSuffix(got, ":8080") {
		t.Errorf("the library advertises %q, %v", got, err)
	}
}

func TestDoctor_Cache(t *testing.T) {
	dir := t.TempDir()
	url := "consul://" + closedPort(t) + "/?cache-dir="
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	examine(t, "-r", url+file).has(t, "cache", outcomeFailed, "is no folder", "cache-dir=")
	examine(t, "-r", url+file+"/below").has(t, "cache", outcomeFailed, "not a directory", "cache-dir=")
	examine(t, "-r", url+dir+"/none").has(t, "cache", outcomeWarning, "does not exist yet", "cache-dir=")
	examine(t, "-r", url+dir).has(t, "cache", outcomePassed, "writable, and empty", "")
	set, then := filepath.Join(dir, "greeter-1.json"), time.Now().Add(-30*24*time.Hour)
	if err := errors.Join(os.WriteFile(set, nil, 0o600), os.Chtimes(set, then, then)); err != nil {
		t.Fatal(err)
	}
	examine(t, "-r", url+dir).has(t, "cache", outcomeWarning, "1 sets, the newest is 30 days old", "use this folder")
}

// asProcess runs the doctor in a process of its own, under shell commands that come before it.
func asProcess(t *testing.T, before string, env []string, args ...string) diagnosis {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", before + `exec "$0" "$@"`, executable, "doctor", "-o", "json"}, args...)...)
	cmd.Env = append(append(os.Environ(), roleVariable+"=rollcall"), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code is in ProcessState
	return readDiagnosis(t, result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()})
}

func TestDoctor_OpenFiles(t *testing.T) {
	_, url := newStore(t)
	asProcess(t, "ulimit -n 500; ", nil, "-r", url).has(t, "files", outcomeWarning, "500", "LimitNOFILE")
}

// The doctor finds the same proxy in the environment as net/http does, and does not show its password.
func TestDoctor_Proxy(t *testing.T) {
	proxy := closedPort(t)
	env := []string{"HTTP_PROXY=http://user:hunter2@" + proxy, "NO_PROXY=direct.test"}
	d := asProcess(t, "", env, "-r", "consul://consul.test:8500")
	d.has(t, "proxy", outcomeWarning, "connections to consul.test:8500 go through the proxy "+proxy, "add consul.test to NO_PROXY")
	d.has(t, "tcp", outcomeFailed, proxy+": connection refused", "")
	if strings.Contains(fmt.Sprint(d), "hunter2") {
		t.Errorf("a password is shown: %v", d)
	}
	asProcess(t, "", env, "-r", "consul://"+closedPort(t)).has(t, "proxy", outcomePassed, "not used for 127.0.0.1", "")
	asProcess(t, "", env, "-r", "etcd://"+closedPort(t)).has(t, "proxy", outcomePassed, "not used for etcd", "")
}

func TestDoctor_ShowsNoSecret(t *testing.T) {
	secrets := []string{"hunter-url", "hunter-user", "hunter-pass", "hunter-env", "hunter-auth"}
	echo := consulAnswers(t, func(w http.ResponseWriter, r *http.Request) bool { // a proxy that repeats what it got
		w.WriteHeader(http.StatusForbidden)
		user, password, _ := r.BasicAuth()
		fmt.Fprintln(w, r.Header, user, password)
		return true
	})
	t.Setenv("CONSUL_HTTP_TOKEN", "hunter-env")
	t.Setenv("CONSUL_HTTP_AUTH", "hunter-user:hunter-auth")
	host := strings.TrimPrefix(echo, "consul://")
	for _, url := range []string{
		echo, "consul://hunter-user:hunter-pass@" + host + "/?token=hunter-url", "consul://hunter-user:hunter-pass@" + host + "/?tokn=hunter-url",
		"etcd://someone:hunter-pass@" + host + "?timeout=1s", "etcd://someone:hunter-pass@" + host + "?password=hunter-url", "consul://u:hunter-pass#x@h",
		"memory://u:hunter-pass@h",
	} {
		for _, args := range [][]string{{"-o", "json"}, {"-v"}} {
			got := rollcall(t, append([]string{"doctor", "-r", url, "--timeout", "5s"}, args...)...)
			for _, secret := range secrets {
				if strings.Contains(got.stdout+got.stderr, secret) {
					t.Errorf("%s %v: %q is shown:\n%s%s", url, args, secret, got.stdout, got.stderr)
				}
			}
		}
	}
}

// If the time is over, what needs the registry is not checked, and what concerns this host is.
func TestDoctor_TimeoutEndsTheChecksOfTheRegistry(t *testing.T) {
	hangs := make(chan struct{})
	url := consulAnswers(t, func(http.ResponseWriter, *http.Request) bool { <-hangs; return false })
	t.Cleanup(func() { close(hangs) })
	d := examine(t, "-r", url, "--timeout", "200ms")
	d.has(t, "agent", outcomeFailed, "no answer in the time that was left", "--timeout")
	d.has(t, "leader", outcomeSkipped, "because agent failed", "")
	for _, check := range []string{"address", "files", "cache"} {
		if f := d.findings[check]; strings.Contains(f.Fact, "not checked") {
			t.Errorf("%s: %+v", check, f)
		}
	}
	d.exits(t, exitUnreachable)
	if !strings.Contains(d.stderr, "not finished within 200ms") {
		t.Errorf("it says %q", d.stderr)
	}
}

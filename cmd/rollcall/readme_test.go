package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// masks replace what differs between two runs.
var masks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(^|\s)(\d+[dhms])+(\s|$)`), "${1}AGE$3"},
	{regexp.MustCompile(`:\d{2,5}\b`), ":PORT"},
	{regexp.MustCompile(` +`), " "}, // the width of a column depends on the ports
	{regexp.MustCompile(`(?m) +$`), ""},
}

func masked(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.by)
	}
	return text
}

// readmeCommands returns the commands of the README, each with its output.
func readmeCommands(t *testing.T) (commands, outputs []string) {
	t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(line, "$ rollcall "); ok {
				commands, outputs = append(commands, strings.TrimSpace(command)), append(outputs, "")
			} else if len(outputs) > 0 {
				outputs[len(outputs)-1] += strings.TrimPrefix(line, "^C") // the terminal's echo of what ends a command
			}
		}
	}
	return commands, outputs
}

// TestReadme_ShowsWhatTheCommandsWrite runs the commands of the README on a real Consul, and compares what they write. Times and ports
// are masked.
func TestReadme_ShowsWhatTheCommandsWrite(t *testing.T) {
	commands, outputs := readmeCommands(t)
	var names []string
	for _, c := range commands {
		name, _, _ := strings.Cut(c, " ")
		names = append(names, name)
	}
	if want := []string{"services", "instances", "watch", "register", "inspect"}; !slices.Equal(names, want) {
		t.Fatalf("the README has the commands %q, want %q", names, want)
	}
	url := "consul://" + testbed.StartConsul(t).Addr()
	t.Setenv(registryVariable, url)
	page := serveGreeters(t, url)
	compare := func(i int, got string) {
		t.Helper()
		if masked(got) != masked(outputs[i]) {
			t.Errorf("rollcall %s writes\n%s\nbut the README has\n%s", commands[i], got, outputs[i])
		}
	}
	for i := range 2 {
		compare(i, rollcall(t, strings.Fields(commands[i])...).stdout)
	}

	changes, stopWatch := start(t, strings.Fields(commands[2])...)
	watchtest.Eventually(t, "the instance that passes", func() bool { return strings.Contains(changes.String(), " + ") })
	address := freeAddress(t)
	t.Chdir(t.TempDir())
	if err := os.Symlink(testBinary(t), "server"); err != nil {
		t.Fatal(err)
	}
	t.Setenv(roleVariable, "server "+address)
	shown, stop := onTerminal(t, &buffer{}, strings.Fields(strings.ReplaceAll(commands[3], "127.0.0.1:8080", address))...)
	watchtest.Eventually(t, "the third instance", func() bool { return strings.Count(changes.String(), " + ") == 2 })
	shows(t, shown, "registered greeter/")
	if code := stop(); code != exitFound {
		t.Errorf("exit code %d", code)
	}
	shows(t, shown, "the program has ended")
	watchtest.Eventually(t, "the third instance has left", func() bool { return strings.Contains(changes.String(), " - ") })
	compare(2, stopWatch().stdout)
	compare(3, shown())

	compare(4, rollcall(t, "inspect", page).stdout)
}

func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serveGreeters registers the greeters of the README, has a channel to them, and returns the URL of the status page.
func serveGreeters(t *testing.T, url string) string {
	t.Helper()
	reg, err := openers.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "greeter-1", Address: "10.0.0.1:8080", Version: "1.4.0", Zone: "eu-west-1a"})
	watchtest.Register(t, reg, registry.Instance{Service: "greeter", ID: "greeter-2", Address: "10.0.0.2:8080", Version: "1.5.0", Zone: "eu-west-1b",
		Status: registry.Critical})
	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nothing listens there") }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.Connect()
	page := servePage(t, reg)
	watchtest.Eventually(t, "the channel knows its endpoint", func() bool { return strings.Contains(rollcall(t, "inspect", page).stdout, "ready") })
	return page
}

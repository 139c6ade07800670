package registrytest_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// brokenVariable names, for a process that TestBrokenDrivers starts, the driver that it is to hold to the promises.
const brokenVariable = "ROLLCALL_BROKEN_DRIVER"

func TestBrokenDrivers(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		runBroken(t, name)
		return
	}
	for _, b := range brokenDrivers() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			failed, output := runInProcess(t, b.name)
			for _, want := range b.fails {
				if !slices.Contains(failed, want) {
					t.Errorf("%q is passed", want)
				}
			}
			if !b.broad && len(failed) > len(b.fails) {
				t.Errorf("the cases that fail are %q, want no more than %q", failed, b.fails)
			}
			if t.Failed() {
				t.Logf("The output:\n%s", output)
			}
		})
	}
}

// The drivers of TestMissingHooks are right, but their Config has no hooks.
const (
	noHooks         = "right, without hooks"
	noHooksComplete = "right, without hooks, and complete"
)

func TestMissingHooks(t *testing.T) {
	var need []string
	for name, hook := range registrytest.Needs() {
		if hook != "" {
			need = append(need, name)
		}
	}
	slices.Sort(need)
	if failed, output := runInProcess(t, noHooks); len(failed) > 0 || bytes.Count(output, []byte("--- SKIP: ")) != len(need) {
		t.Errorf("a Config without hooks fails %q, want %d cases skipped; the output:\n%s", failed, len(need), output)
	}
	failed, output := runInProcess(t, noHooksComplete)
	if !slices.Equal(failed, need) {
		t.Errorf("a Config without hooks, and Complete, fails %q, want %q", failed, need)
	}
	for _, field := range []string{"Config.Lose", "Config.Break", "Config.Calls"} {
		if !bytes.Contains(output, []byte(field+" is nil")) {
			t.Errorf("the output does not name %s:\n%s", field, output)
		}
	}
}

func runBroken(t *testing.T, name string) {
	if name == noHooks || name == noHooksComplete {
		c := config(t, broken{driver: func() *faulty { return &faulty{} }})
		c.Lose, c.Break, c.Calls, c.Complete = nil, nil, nil, name == noHooksComplete
		registrytest.Run(t, c)
		return
	}
	for _, b := range brokenDrivers() {
		if b.name == name {
			registrytest.Run(t, config(t, b))
			return
		}
	}
	t.Fatalf("%s: there is no driver %q", brokenVariable, name)
}

var failLine = regexp.MustCompile(`(?m)^ +--- FAIL: TestBrokenDrivers/(\S+)`)

// runInProcess runs the suite in a process of its own, and returns the cases that failed, sorted.
func runInProcess(t *testing.T, name string) (failed []string, output []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenDrivers$", "-test.v", "-test.count=1", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), brokenVariable+"="+name)
	output, err := cmd.CombinedOutput()
	for _, m := range failLine.FindAllSubmatch(output, -1) {
		failed = append(failed, strings.ReplaceAll(string(m[1]), "_", " "))
	}
	slices.Sort(failed)
	if exit := new(exec.ExitError); err != nil && !(errors.As(err, &exit) && len(failed) > 0) || bytes.Contains(output, []byte("panic:")) {
		t.Fatalf("%v; the output:\n%s", err, output)
	}
	return failed, output
}

// config is for a store in this process, each of whose clients goes through the broken driver.
func config(t *testing.T, b broken) registrytest.Config {
	options := registry.Options{Logger: slog.New(slog.DiscardHandler)}
	c := registrytest.Config{Complete: true, Around: synctest.Test}
	if b.realTime {
		options.Spacing, options.BackoffMax = 10*time.Millisecond, 100*time.Millisecond
		c.Around, c.Patience = nil, 3*time.Second
	}
	store := memory.New()
	t.Cleanup(func() { store.Close() })
	clients := map[*memory.Registry]bool{}
	c.New = func(t *testing.T) *registry.Registry {
		client := store.Client()
		clients[client] = true
		t.Cleanup(func() { delete(clients, client) })
		d := b.driver()
		d.Driver = client.Driver()
		return registry.New(d, options)
	}
	c.Lose = func(_ *testing.T, in registry.Instance) { store.Expire(in.Service, in.ID) }
	c.Break = func(*testing.T) func() {
		for client := range clients {
			client.Fail(errors.New("injected"))
		}
		return func() {
			for client := range clients {
				client.Heal()
			}
		}
	}
	c.Calls = func(*testing.T) (n int) {
		for client := range clients {
			n += client.Calls()
		}
		return n
	}
	return c
}

// The suite itself: with a driver that is right, every case passes, and none is left out.
func TestARightDriverPasses(t *testing.T) {
	registrytest.Run(t, config(t, broken{driver: func() *faulty { return &faulty{} }}))
}

func TestEachCaseIsNamedOnceAndExplained(t *testing.T) {
	needs, why := registrytest.Needs(), registrytest.Why()
	for name, text := range why {
		if len(text) < 60 || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: the explanation is %q", name, text)
		}
		if strings.ContainsAny(name, "_,/") {
			t.Errorf("%s: the name does not survive being the name of a subtest", name)
		}
	}
	for _, b := range brokenDrivers() {
		for _, name := range b.fails {
			if _, ok := needs[name]; !ok && name != "nothing left running" {
				t.Errorf("%s: there is no case %q", b.name, name)
			}
		}
	}
}

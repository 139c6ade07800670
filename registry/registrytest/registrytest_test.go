package registrytest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// brokenVariable names, for a process that TestRun_FindsBrokenDrivers starts, the driver that it tests.
const brokenVariable = "ROLLCALL_BROKEN_DRIVER"

func TestRun_FindsBrokenDrivers(t *testing.T) {
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

// The drivers of TestRun_WithoutHooks are right, but their Config has no hooks.
const (
	noHooks         = "right, without hooks"
	noHooksComplete = "right, without hooks, and complete"
)

func TestRun_WithoutHooks(t *testing.T) {
	var need []string
	for name, hook := range registrytest.Needs() {
		if hook != "" && hook != "Write" {
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
	for _, field := range []string{"Config.Lose", "Config.Break", "Config.Calls", "Config.KeepOnClose", "Config.RefuseWrites", "Config.NewDriver", "Config.LoseAnswers", "Config.WriteUnreadable"} {
		if !bytes.Contains(output, []byte(field+" is nil")) {
			t.Errorf("the output does not name %s:\n%s", field, output)
		}
	}
}

// The drivers of TestRun_OfABackendThatCanOnlyFind cannot register. The first one is right, the others are among the broken ones.
const findsOnly = "finds only: "

func TestRun_OfABackendThatCanOnlyFind(t *testing.T) {
	failed, output := runInProcess(t, findsOnly)
	if len(failed) > 0 {
		t.Errorf("it fails %q; the output:\n%s", failed, output)
	}
	for _, p := range registrytest.Registers() {
		if !bytes.Contains(output, []byte("--- SKIP: TestRun_FindsBrokenDrivers/"+strings.ReplaceAll(p, " ", "_"))) {
			t.Errorf("%q is not skipped", p)
		}
	}
	if !bytes.Contains(output, []byte("not checked, since the backend can only find")) {
		t.Errorf("the output gives no reason:\n%s", output)
	}
	for name, want := range map[string]string{"returns the first hundred": "completeness", "drops metadata": "every field", "registers": "register is unsupported"} {
		if failed, output := runInProcess(t, findsOnly+name); !slices.Contains(failed, want) {
			t.Errorf("%s: it fails %q, want %q among them; the output:\n%s", name, failed, want, output)
		}
	}
}

// finding returns the Config of a backend that can only find. Write goes through the driver, too.
func finding(t *testing.T, b broken, c registrytest.Config) registrytest.Config {
	open := c.NewDriver
	c.Write = func(t *testing.T, in registry.Instance) (remove func()) {
		l, err := open(t).Register(t.Context(), &in, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := l.Release(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	c.New = func(t *testing.T) *registry.Registry {
		d := open(t)
		if b.name != "registers" {
			d = finder{d}
		}
		return watchtest.NewRegistry(t, d, registry.Options{})
	}
	c.NewDriver, c.KeepOnClose, c.RefuseWrites, c.LoseAnswers, c.Lose = nil, nil, nil, nil, nil
	return c
}

// finder is a driver that cannot register.
type finder struct{ registry.Driver }

func (finder) Register(context.Context, *registry.Instance, registry.Lease) (registry.Lease, error) {
	return nil, registry.ErrUnsupported
}

func runBroken(t *testing.T, name string) {
	if name, ok := strings.CutPrefix(name, findsOnly); ok {
		b := broken{name: name, driver: func() *faulty { return &faulty{} }}
		for _, other := range brokenDrivers() {
			if other.name == name {
				b = other
			}
		}
		registrytest.Run(t, finding(t, b, config(t, b)))
		return
	}
	if name == noHooks || name == noHooksComplete {
		c := config(t, broken{driver: func() *faulty { return &faulty{} }})
		c.Lose, c.Break, c.Calls, c.KeepOnClose, c.RefuseWrites, c.NewDriver = nil, nil, nil, nil, nil, nil
		c.LoseAnswers, c.WriteUnreadable = nil, nil
		c.Complete = name == noHooksComplete
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

var failLine = regexp.MustCompile(`(?m)^ +--- FAIL: TestRun_FindsBrokenDrivers/(\S+)`)

// runInProcess runs the suite in a process of its own, and returns the cases that failed, sorted.
func runInProcess(t *testing.T, name string) (failed []string, output []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRun_FindsBrokenDrivers$", "-test.v", "-test.count=1", "-test.timeout=5m")
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
	c := registrytest.Config{Complete: true, Around: bubble.Test}
	var ttl time.Duration
	if b.realTime {
		options.Spacing, options.BackoffMax = 10*time.Millisecond, 100*time.Millisecond
		c.Around, c.Patience = nil, 6*time.Second
		ttl = c.Patience / 3 // some cases wait for the end of a lease
	}
	store, err := memory.NewWith(memory.Config{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	clients := map[*memory.Registry]bool{}
	unanswered := new(atomic.Bool)
	c.NewDriver = func(t *testing.T) registry.Driver {
		client := store.Client()
		clients[client] = true
		t.Cleanup(func() { delete(clients, client) })
		d := b.driver()
		d.Driver, d.unanswered = client.Driver(), unanswered
		return d
	}
	open := func(t *testing.T, o registry.Options) *registry.Registry {
		return watchtest.NewRegistry(t, c.NewDriver(t), o)
	}
	c.New = func(t *testing.T) *registry.Registry { return open(t, options) }
	c.KeepOnClose = func(t *testing.T) *registry.Registry {
		kept := options
		kept.KeepOnClose = true
		return open(t, kept)
	}
	heal := func() {
		for client := range clients {
			client.Heal()
		}
	}
	c.RefuseWrites = func(*testing.T) func() {
		for client := range clients {
			client.RefuseWrites(errors.New("injected"))
		}
		return heal
	}
	c.LoseAnswers = func(*testing.T) func() {
		unanswered.Store(true)
		return func() { unanswered.Store(false) }
	}
	c.WriteUnreadable = func(t *testing.T, service, id string) (remove func()) {
		other := store.Client()
		in := registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80", Version: noInstance}
		if _, err := other.Register(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		return func() { other.Close() }
	}
	c.Lose = func(_ *testing.T, in registry.Instance) { store.Expire(in.Service, in.ID) }
	c.Break = func(*testing.T) func() {
		for client := range clients {
			client.Fail(errors.New("injected"))
		}
		return heal
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
func TestRun_PassesARightDriver(t *testing.T) {
	registrytest.Run(t, config(t, broken{driver: func() *faulty { return &faulty{} }}))
}

func TestRun_NamesAndExplainsEachCase(t *testing.T) {
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

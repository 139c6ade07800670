package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// An agent that accepts the connection and does not answer must not look like an empty service.
func TestWatch_SaysWhatItWaitsFor(t *testing.T) {
	address, _ := newHangingServer(t)
	url := "consul://" + address
	want := "waiting for greeter in consul " + address
	t.Run("on a terminal", func(t *testing.T) {
		shown, stop := onTerminal(t, &buffer{}, "-r", url, "watch", "greeter")
		shows(t, shown, eraseLine+want)
		if code := stop(); code != exitFound {
			t.Errorf("exit code %d", code)
		}
		watchtest.Eventually(t, "the line is erased", func() bool { return strings.HasSuffix(shown(), eraseLine) })
	})
	t.Run("elsewhere", func(t *testing.T) {
		stderr := startWithErrors(t, "-r", url, "watch", "greeter")
		watchtest.Eventually(t, "one line", func() bool { return stderr.String() == "rollcall: "+want+"\n" })
	})
}

func TestWatch_SaysThatThereIsNoInstance(t *testing.T) {
	_, url := newStore(t)
	out, _ := start(t, "-r", url, "watch", "nosuch")
	has := regexp.MustCompile(`\A\S+ = nosuch has no instance that passes and matches; --all shows the others\n\z`)
	watchtest.Eventually(t, "the line", func() bool { return has.MatchString(out.String()) })
	out, _ = start(t, "-r", url, "watch", "nosuch", "-a")
	has = regexp.MustCompile(`\A\S+ = nosuch has no instance that matches\n\z`)
	watchtest.Eventually(t, "the line of --all", func() bool { return has.MatchString(out.String()) })

	var screen buffer
	l := &liveTable{a: &app{stdout: &screen}, title: "nosuch in memory", query: registry.Query{Service: "nosuch", AnyStatus: true}}
	if err := l.show([]*registry.Instance{}, nil); err != nil || !strings.HasSuffix(screen.String(), "\n\nnosuch has no instance that matches\n") {
		t.Errorf("the table is %q, %v", screen.String(), err)
	}
}

// A library keeps the last good set for a grace period if all of a service fails at once. Someone who looks must see that it fails.
func TestWatch_ShowsASetThatALibraryWithholds(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	out, _ := start(t, "-r", url, "watch", "greeter", "-a")
	watchtest.Eventually(t, "both instances", func() bool { return strings.Count(out.String(), " + ") == 2 })
	reg.SetStatus("greeter", "g1", registry.Critical)
	watchtest.Eventually(t, "the critical instance", func() bool { return strings.Contains(out.String(), " ~ g1 10.0.0.1:80 critical") })
	reg.Expire("greeter", "g1")
	reg.Expire("greeter", "g2")
	watchtest.Eventually(t, "that both are gone", func() bool { return strings.Count(out.String(), " - ") == 2 })
	if strings.Contains(out.String(), " ! ") {
		t.Errorf("something was withheld:\n%s", out.String())
	}
}

func TestWithoutGrace_KeepsWhatTheURLSays(t *testing.T) {
	for in, want := range map[string]string{
		"consul://h:1": "consul://h:1?outage-grace=off", "consul://h:1/?dc=x": "consul://h:1/?dc=x&outage-grace=off",
		"memory://": "memory://?outage-grace=off", "etcd://h:1/?outage-grace=5s": "etcd://h:1/?outage-grace=5s", "consul://h#x": "consul://h#x",
	} {
		if got := withoutGrace(in); got != want {
			t.Errorf("withoutGrace(%q) = %q, want %q", in, got, want)
		}
	}
}

// Entries that other tools have written and that cannot be read are not just missing.
func TestRun_SaysHowManyEntriesAreUnreadable(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent, "")
	register := func(id, address string) {
		t.Helper()
		if err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: "greeter", Address: address, Port: 80}); err != nil {
			t.Fatal(err)
		}
	}
	url := "consul://" + agent.Addr()
	said := func(text string, args ...string) {
		t.Helper()
		if got := rollcall(t, append([]string{"-r", url}, args...)...); strings.Count(got.stderr, text) != 1 {
			t.Errorf("%v: standard error %q does not have %q once", args, got.stderr, text)
		}
	}
	register("good", "10.0.0.1")
	register("bad1", "http://10.0.0.2/")
	const one = "rollcall: 1 entry cannot be read and is left out; -v names it\n"
	said(one, "services")
	said(one, "instances", "greeter")
	said(one, "instances", "greeter", "-o", "json")
	said(one, "wait", "greeter")
	register("bad2", "http://10.0.0.3/")
	watchtest.Eventually(t, "both", func() bool {
		got := rollcall(t, "-r", url, "instances", "greeter")
		return got.stderr == "rollcall: 2 entries cannot be read and are left out; -v names them\n"
	})
	said("rollcall: 2 entries cannot be read and are left out\n", "-v", "instances", "greeter")
	got := rollcall(t, "-r", url, "-v", "instances", "greeter")
	for _, entry := range []string{"bad1", "bad2"} {
		if !strings.Contains(got.stderr, entry) {
			t.Errorf("-v does not name %s: %q", entry, got.stderr)
		}
	}

	for _, args := range [][]string{{"watch", "greeter"}, {"watch", "greeter", "--", "true"}, {"sd", "--listen", "127.0.0.1:0"}} {
		stderr := startWithErrors(t, append([]string{"-r", url}, args...)...)
		watchtest.Eventually(t, strings.Join(args, " ")+" says it", func() bool { return strings.Contains(stderr.String(), "2 entries cannot be read") })
	}
	var screen buffer
	l := &liveTable{a: &app{stdout: &screen}, title: "greeter", unreadable: func() string { return "2 entries cannot be read" }}
	if err := l.show(nil, nil); err != nil || !strings.Contains(screen.String(), "\n2 entries cannot be read\n") {
		t.Errorf("the table is %q, %v", screen.String(), err)
	}
}

// Consul does not tell a client without a token that ACLs hide everything, and tells a client with one.
func TestServices_SaysThatACLsHideSome(t *testing.T) {
	agent, root := startConsulWithACLs(t)
	operator := operatorOf(t, agent, root)
	if err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "greeter", Address: "10.0.0.1", Port: 80}); err != nil {
		t.Fatal(err)
	}
	url := "consul://" + agent.Addr()
	for name, token := range map[string]string{
		"no token": "", "one service": newToken(t, operator, toReadNodes+`service "greeter" { policy = "read" }`), "no service": newToken(t, operator, toReadNodes),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CONSUL_HTTP_TOKEN", token)
			wantError(t, rollcall(t, "-r", url, "services"), exitUnreachable, "services: denied")
		})
	}
	t.Setenv("CONSUL_HTTP_TOKEN", root)
	if got := rollcall(t, "-r", url, "services"); got.code != exitFound || !strings.Contains(got.stdout, "greeter  1/1") {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// servePage serves the status page of registries at the usual path, and returns the URL of that.
func servePage(t *testing.T, all ...*registry.Registry) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(defaultPagePath, statuspage.Handler(statuspage.Config{}, all...))
	return serveHandler(t, mux) + defaultPagePath
}

func serveHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// serveText answers every request with text.
func serveText(t *testing.T, text string) string {
	return serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
}

// watchUntil reads q until the test ends, and returns when ok of the state of the watch.
func watchUntil(t *testing.T, r *memory.Registry, q registry.Query, ok func(registry.WatchState) bool) {
	t.Helper()
	var reading sync.WaitGroup
	reading.Go(func() {
		for range r.Watch(t.Context(), q) {
		}
	})
	t.Cleanup(reading.Wait)
	watchtest.Eventually(t, "the watch is as wanted", func() bool {
		for _, w := range r.Snapshot().Watches {
			if w.Query.Service == q.Service && ok(w) {
				return true
			}
		}
		return false
	})
}

// newClients returns two clients of one store, of which the first can have faults.
func newClients(t *testing.T) (faulty, other *memory.Registry) {
	t.Helper()
	faulty, other, _ = newFaultyStore(t)
	t.Cleanup(func() {
		faulty.Heal()
		faulty.Close()
	})
	return faulty, other
}

func current(w registry.WatchState) bool { return w.Known && w.Err == nil }

// addClient adds a client to the list of this process until the test ends.
func addClient(t *testing.T, s clientstate.State) *clientstate.Client {
	c := clientstate.Add(s)
	t.Cleanup(c.Remove)
	return c
}

func TestInspect_ShowsAProcess(t *testing.T) {
	reg, _ := newStore(t)
	greeters(t, reg)
	watchUntil(t, reg, registry.Query{Service: "greeter"}, current)
	addClient(t, clientstate.State{Kind: clientstate.GRPC, Service: "greeter", Policy: "rollcall_p2c", Subset: 20, Target: "rollcall:///greeter"}).Set(2, false, "")
	page := servePage(t, reg.Registry)
	got := rollcall(t, "inspect", page)
	want(t, result{got.code, masked(got.stdout), got.stderr}, exitFound, `memory testinspect-showsaprocess

REGISTRATION STATE FOR ADDRESS
greeter/g1 registered AGE 10.0.0.1:PORT
greeter/g2 registered AGE 10.0.0.2:PORT

WATCH SET FOR PASSING/ALL READERS
greeter current AGE 1/2 1

CLIENT STATE FOR ENDPOINTS POLICY
greeter grpc ready AGE 2 (subset 20) rollcall_p2c
`)
	host := strings.TrimSuffix(strings.TrimPrefix(page, "http://"), defaultPagePath)
	for _, url := range []string{host, "http://" + host, page + "?x=y#z"} {
		if again := rollcall(t, "inspect", url); masked(again.stdout) != masked(got.stdout) {
			t.Errorf("%s: %s%s", url, again.stdout, again.stderr)
		}
	}
	wide := rollcall(t, "inspect", page, "-o", "wide").stdout
	for _, part := range []string{"VERSION  ZONE  LOSSES", "READS  FAILURES  CHANGES", "REGISTRY  TARGET", "rollcall:///greeter"} {
		if !strings.Contains(wide, part) {
			t.Errorf("the wide form has no %q:\n%s", part, wide)
		}
	}
}

func TestInspect_JSONIsTheAnswer(t *testing.T) {
	text := `{"registries": [],   "clients": [], "more": 1}`
	want(t, rollcall(t, "inspect", serveText(t, text), "-o", "json"), exitFound, text)
	reg, _ := newStore(t)
	greeters(t, reg)
	var got struct {
		Registries []struct {
			Registrations []struct{ Instance registry.Instance }
		}
	}
	out := rollcall(t, "inspect", servePage(t, reg.Registry), "-o", "json").stdout
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Registries[0].Registrations[1].Instance.ID != "g2" {
		t.Errorf("got %s, %v", out, err)
	}
}

func TestInspect_ShowsWhatIsWrong(t *testing.T) {
	client, other := newClients(t)
	watchtest.Register(t, client, registry.Instance{Service: "web", ID: "w1", Address: "10.0.0.1:80"})
	watchtest.Register(t, client, registry.Instance{Service: "web", ID: "w2", Address: "10.0.0.2:80"})
	watchtest.Register(t, other, registry.Instance{Service: "broken", ID: "b1", Address: "10.0.0.3:80", Status: registry.Critical})
	watchUntil(t, client, registry.Query{Service: "web"}, current)
	watchUntil(t, client, registry.Query{Service: "broken"}, current)
	watchUntil(t, client, registry.Query{Service: "none", Tags: []string{"blue"}, Version: "2"}, current)
	client.RefuseWrites(errors.New("etcdserver: mvcc: database space exceeded, which an operator has to mend by a compaction and a defragmentation"))
	client.Expire("web", "w2")
	watchtest.Eventually(t, "registering again is refused", func() bool {
		err := client.Snapshot().Registrations[1].Err
		return err != nil && strings.Contains(err.Error(), "database space exceeded")
	})
	addClient(t, clientstate.State{Kind: clientstate.HTTP, Service: "none"}).Set(0, false, `service "none" in memory: no passing instance is registered`)
	got := rollcall(t, "inspect", servePage(t, client.Registry))
	wantError(t, got, exitNothing, "rollcall: failing: 1 of 2 registrations, 2 of 3 watches, 1 of 1 clients\n")
	rest := got.stdout
	for _, part := range []string{
		"web/w2        not registered", ": unavailable: etcdserver: mvcc: database space exceeded, which\n    an operator has to ",
		"\nweb/w1        registered", "broken", "not passing", "0/1", "none version=2 tag=blue", "empty", "\nweb ", "\nnone http  without an endpoint",
		"\n    service \"none\" in memory: no passing instance is registered\n",
	} {
		before, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("%q does not follow in %q of\n%s", part, rest, got.stdout)
		}
		_, rest = before, after
	}
	for line := range strings.Lines(got.stdout) {
		if n := len([]rune(line)) - 1; n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// Calls go on with the last good set, so a stale watch is no reason to fail.
func TestInspect_ShowsAStaleWatch(t *testing.T) {
	client, other := newClients(t)
	watchtest.Register(t, other, registry.Instance{Service: "web", ID: "w1", Address: "10.0.0.1:80"})
	watchUntil(t, client, registry.Query{Service: "web"}, current)
	client.Fail(errors.New("connection refused"))
	watchtest.Eventually(t, "the watch is stale", func() bool { return client.Snapshot().Watches[0].Err != nil })
	got := rollcall(t, "inspect", servePage(t, client.Registry))
	if got.code != exitFound || !strings.Contains(masked(got.stdout), "web stale AGE 1/1 1\n watch web: unavailable: connection refused\n") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestPageWatch_State(t *testing.T) {
	passing := `"known":true,"instances":[{},{"status":"passing"},{"status":"critical"}]`
	for watch, want := range map[string]string{
		`{}`:                "no answer yet",
		`{"error":"down"}`:  "without a set",
		`{"known":true}`:    "empty",
		`{` + passing + `}`: "current",
		`{"known":true,"instances":[{"status":"critical"}]}`:                      "not passing",
		`{"known":true,"instances":[{"status":"?"},{"status":"warning"},{}]}`:     "mostly not passing",
		`{` + passing + `,"unreadable":[{"entry":"e","error":"x"}]}`:              "partly unreadable",
		`{` + passing + `,"origin":"registry","error":"down"}`:                    "stale",
		`{` + passing + `,"origin":"memory","error":"down"}`:                      "from memory",
		`{` + passing + `,"origin":"disk","error":"down"}`:                        "from disk",
		`{` + passing + `,"origin":"registry","withheld":true,"error":"suspect"}`: "withheld",
	} {
		var w pageWatch
		if err := json.Unmarshal([]byte(watch), &w); err != nil {
			t.Fatal(err)
		}
		if got, _ := w.state(); got != want {
			t.Errorf("%s is %q, want %q", watch, got, want)
		}
	}
}

func TestInspect_SaysWhyThereIsNoPage(t *testing.T) {
	other := serveText(t, `{"registries":[]}`)
	elsewhere := serveHandler(t, http.RedirectHandler(other, http.StatusFound))
	var loop string
	loop = serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, loop+"/again", http.StatusFound) }))
	hang := make(chan struct{})
	unanswered := serveHandler(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(func() { close(hang) })
	defer func(was int) { maxPageSize = was }(maxPageSize)
	maxPageSize = 1 << 20
	large := serveText(t, `{"registries":[]}`+strings.Repeat(" ", maxPageSize))
	for _, c := range []struct {
		args  string
		code  int
		parts []string
	}{
		{"", exitUsage, []string{"URL is missing"}},
		{"ftp://h/", exitUsage, []string{"URL: it does not have the form http://HOST:PORT/debug/rollcall/"}},
		{"http://", exitUsage, []string{"URL: it does not have the form"}},
		{"http://u:hunter2@h:x/", exitUsage, []string{"URL: invalid port"}},
		{"127.0.0.1:1 -o jsonl", exitUsage, []string{`"jsonl" is none of [table wide json]`}},
		{"http://u:hunter2@127.0.0.1:1/?token=hunter2", exitUnreachable, []string{"http://127.0.0.1:1/debug/rollcall/: dial tcp 127.0.0.1:1: connect: connection refused"}},
		{serveHandler(t, http.NotFoundHandler()) + "/x", exitUnreachable, []string{"/x: the answer has status 404 Not Found"}},
		{serveText(t, "<html>"), exitUnreachable, []string{"the answer is not the JSON of a status page"}},
		{serveText(t, `{"status":"ok"}`), exitUnreachable, []string{"the answer is not the JSON of a status page"}},
		{serveText(t, `{"registries":{"a":1}}`), exitUnreachable, []string{"the answer is not the JSON of a status page"}},
		{elsewhere, exitUnreachable, []string{"the answer is a redirection to another host"}},
		{loop, exitUnreachable, []string{"more than 3 redirections"}},
		{unanswered + " --timeout 50ms", exitUnreachable, []string{"no answer within --timeout"}},
		{large, exitUnreachable, []string{"the answer has more than 1 MB"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := rollcall(t, append([]string{"inspect"}, strings.Fields(c.args)...)...)
			wantError(t, got, c.code, c.parts...)
			if strings.Contains(got.stderr, "hunter2") {
				t.Errorf("it shows a password: %s", got.stderr)
			}
		})
	}
}

func TestInspect_FollowsTheMuxToTheSlash(t *testing.T) {
	reg, _ := newStore(t)
	got := rollcall(t, "inspect", strings.TrimSuffix(servePage(t, reg.Registry), "/"))
	if got.code != exitFound || !strings.Contains(got.stdout, "nothing is registered here\n\nnothing is watched here\n") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestInspect_QuotesEscapes(t *testing.T) {
	const hostile = `a\u001b[2J\u009b31m\nb`
	body := strings.ReplaceAll(`{"registries":[{"registry":"X","registrations":[{"instance":{"service":"X","id":"X","address":"X","version":"X","zone":"X"},"error":"X"}],
		"watches":[{"query":{"service":"X","version":"X","tags":["X"],"metadata":{"X":"X"}},"known":true,"error":"X","origin":"X","unreadable":[{"entry":"X","error":"X"}]}]}],
		"clients":[{"kind":"X","service":"X","policy":"X","registry":"X","target":"X","error":"X"}]}`, "X", hostile)
	got := rollcall(t, "inspect", serveText(t, body), "-o", "wide")
	if strings.ContainsAny(got.stdout+got.stderr, "\x1b\u009b") || !strings.Contains(got.stdout, `a\x1b[2J\u009b31m\nb`) {
		t.Errorf("got %q", got.stdout+got.stderr)
	}
}

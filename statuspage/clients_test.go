package statuspage_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// newClientOf returns a client in the list of this process, which is removed when the test ends.
func newClientOf(t *testing.T, d any, s clientstate.State) *clientstate.Client {
	t.Helper()
	s.Kind, s.Discovery = max(s.Kind, clientstate.GRPC), d
	c := clientstate.Add(s)
	t.Cleanup(c.Remove)
	return c
}

func TestHandler_ShowsClients(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		wantNoText(t, h, "Clients")
		web := newClientOf(t, store.Registry, clientstate.State{Target: "rollcall:///web?subset=20", Service: "web", Policy: "rollcall_p2c", Subset: 20})
		mail := newClientOf(t, store.Registry, clientstate.State{Kind: clientstate.HTTP, Target: "http://mail", Service: "mail"})
		wantText(t, h, "All is well: 2 clients", "Clients 2", "no answer yet web gRPC rollcall_p2c subset of 20 0 endpoints")
		web.Set(20, false, "")
		mail.Set(1, false, "")
		time.Sleep(time.Hour)
		wantText(t, h, "All is well: 2 clients", "ready mail HTTP 1 endpoint for 1 h, since 00:00:00", "ready web gRPC rollcall_p2c subset of 20 20 endpoints",
			"rollcall:///web?subset=20")
		mail.Set(0, false, `service "mail" in memory: no passing instance is registered`)
		web.Set(20, true, "")
		time.Sleep(2 * time.Minute)
		wantText(t, h, "1 of 2 clients without an endpoint for 2 min mail 1 of 2 clients below the panic threshold for 2 min web",
			"Calls fail: service &#34;mail&#34; in memory: no passing", "too few instances pass, so calls go to the others too.")
		web.Remove()
		mail.Remove()
		wantNoText(t, h, "Clients")
	})
}

// The summary of an outage has one line for a watch and its clients.
func TestHandler_ReportsAStaleClientByItsWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		watchtest.Register(t, watchtest.NewMemoryClient(t, store), registry.Instance{Service: "web", ID: "a", Address: address})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		watchtest.Watch(t, store, web)
		synctest.Wait()
		c := newClientOf(t, store.Registry, clientstate.State{Service: "web"})
		c.Set(1, false, "connection refused")
		store.Fail(errors.New("connection refused"))
		time.Sleep(time.Minute)
		wantText(t, h, "stale web gRPC", "The last good endpoints are in use: connection refused", "1 of 1 watch stale for 1 min")
		wantNoText(t, h, "1 of 1 client")
		elsewhere := newClientOf(t, nil, clientstate.State{Service: "mail", Target: "rollcall:///mail", Registry: "consul 10.0.0.1:8500"})
		elsewhere.Set(1, false, "connection refused")
		wantText(t, h, "1 of 2 clients stale", "Other registries Clients 1 stale mail gRPC", "rollcall:///mail · in consul 10.0.0.1:8500")
	})
}

func TestHandler_ShowsClientsByRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		one, two, other := watchtest.NewMemory(t, registry.Options{}), watchtest.NewMemory(t, registry.Options{}), watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, one.Registry, two.Registry)
		newClientOf(t, two.Registry, clientstate.State{Service: "of-two", Registry: "memory"})
		newClientOf(t, decorated{one.Registry}, clientstate.State{Service: "of-one", Registry: "memory"})
		newClientOf(t, other.Registry, clientstate.State{Service: "of-another", Registry: "memory"})
		newClientOf(t, nil, clientstate.State{Service: "of-none"})
		page := text(get(h, "GET", "/").Body.String())
		before := -1
		for _, part := range []string{"of-one", "Last changes", "of-two", "Last changes", "Other registries", "of-another", "of-none"} {
			at := strings.Index(page[before+1:], part)
			if at < 0 {
				t.Fatalf("%q does not follow %q in %s", part, page[:before+1], page[before+1:])
			}
			before += at + 1
		}
	})
}

// decorated is a Discovery around a Registry.
type decorated struct{ *registry.Registry }

func TestHandler_ClientsInJSON(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	newClientOf(t, store.Registry, clientstate.State{Target: "rollcall:///web", Service: "web", Registry: "memory"}).Set(2, true, "")
	var got struct {
		Registries []json.RawMessage
		Clients    []clientstate.State
	}
	body := get(statuspage.Handler(statuspage.Config{}, store.Registry), "GET", "/?format=json").Body.Bytes()
	if err := json.Unmarshal(body, &got); err != nil || len(got.Registries) != 1 || len(got.Clients) != 1 {
		t.Fatalf("got %s, %v", body, err)
	}
	if c := got.Clients[0]; c.Kind != clientstate.GRPC || c.Target != "rollcall:///web" || c.Endpoints != 2 || !c.Panicking || c.Since.IsZero() {
		t.Errorf("got %+v", c)
	}
}

func TestHandler_HidesMetadataOfTargets(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	newClientOf(t, store.Registry, clientstate.State{Service: "web", Target: "rollcall:///web?tag=a&meta.owner=tiger&m%65ta.x=tiger&%zz=tiger"})
	newClientOf(t, store.Registry, clientstate.State{Service: "web", Target: "rollcall:///plain"})
	hidden := statuspage.Handler(statuspage.Config{}, store.Registry)
	wantNoText(t, hidden, "tiger")
	wantText(t, hidden, "rollcall:///web?tag=a&amp;meta.owner=(hidden)&amp;m%65ta.x=(hidden)&amp;%zz=(hidden)", "rollcall:///plain")
	if body := get(hidden, "GET", "/?format=json").Body.String(); strings.Contains(body, "tiger") {
		t.Errorf("the JSON has metadata: %s", body)
	}
	wantText(t, statuspage.Handler(statuspage.Config{ShowMetadata: true}, store.Registry), "meta.owner=tiger")
}

func TestHandler_EscapesTargets(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	const hostile = `"><script>alert(1)</script>`
	newClientOf(t, store.Registry, clientstate.State{Service: hostile, Target: hostile, Policy: hostile}).Set(0, false, hostile)
	h := statuspage.Handler(statuspage.Config{}, store.Registry)
	wantNoText(t, h, "<script>alert")
	wantText(t, h, "&lt;script&gt;alert(1)")
}

func TestHandler_StreamsChangesOfClients(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		c := newClientOf(t, store.Registry, clientstate.State{Service: "web"})
		s, cancel, ended := listen(t, statuspage.Handler(statuspage.Config{}, store.Registry))
		time.Sleep(time.Second)
		before := len(s.events())
		c.Set(0, false, "all are gone")
		synctest.Wait()
		if all := s.events(); len(all) != before+1 || !strings.Contains(all[before], "all are gone") {
			t.Errorf("%d events came after the change, want 1 that has it: %q", len(all)-before, all[before:])
		}
		cancel()
		<-ended
	})
}

// A program with a status page and without gRPC must not link gRPC.
func TestStatuspage_DoesNotLinkGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "google.golang.org/") || !strings.Contains(string(out), "/internal/clientstate\n") {
		t.Errorf("the dependencies are %s", out)
	}
}

package consul

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codectest"
	"github.com/rollcall-go/rollcall/consul/internal/jsondiff"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// An unreadable entry hides none of its neighbours, wherever it is among them, and is not counted as an instance.
func TestNext_LeavesOutUnreadableEntries(t *testing.T) {
	for text, why := range codectest.Unusable {
		for _, neighbours := range []int{0, 1, 100} { // many neighbours are decoded in several batches
			good := func(from int) (all []string) {
				for i := range neighbours {
					all = append(all, codectest.Entry(fmt.Sprintf("good-%d", from+i), ""))
				}
				return all
			}
			all := append(append(good(0), text), good(neighbours)...)
			if text[0] != '{' && neighbours == 0 {
				continue // the whole body is then no answer of Consul
			}
			body := "[" + strings.Join(all, ",\n ") + "]"
			src, _ := scripted(t, Config{}, registry.Query{}, answer{index: "10", body: body}, answer{index: "11", body: strings.Replace(body, "good-0", "good-x", 1)},
				answer{index: "11", body: body}, answer{index: "12", body: body})
			var found []registry.Unreadable
			for range 2 {
				set, err := src.Next(t.Context())
				if err != nil || len(set.Instances) != 2*neighbours {
					t.Fatalf("%s beside %d: there are %d instances, %v", text, neighbours, len(set.Instances), err)
				}
				found = set.Unreadable
				for _, in := range set.Instances {
					if err := in.Validate(); err != nil || !strings.HasPrefix(in.ID, "good-") {
						t.Errorf("%s: there is %v, %v", text, in, err)
					}
				}
			}
			if len(found) != 1 || !strings.Contains(found[0].Err.Error(), why) {
				t.Errorf("%s beside %d: it reports %v, want one with %q", text, neighbours, found, why)
			}
			for _, f := range found {
				if s := f.Entry + f.Err.Error(); strings.ContainsAny(s, "\x1b\n\u202e") || len(s) > 3*scrub.MaxLine || strings.Contains(s, "http://10") {
					t.Errorf("%s: it reports %q", text, s)
				}
			}
		}
	}
}

// A long text is cut. Tokens are hidden before, since half of a token would not be found.
func TestNext_HidesATokenInALongUnreadableEntry(t *testing.T) {
	const token = "5ecre70f-consul"
	for before := scrub.MaxLine - len(token); before <= scrub.MaxLine; before++ {
		id := strings.Repeat("x", before) + token
		src, _ := scripted(t, Config{Token: registry.NewSecret(token)}, registry.Query{}, answer{index: "10", body: "[" + codectest.Entry("a", "") + `,{"Service":{"ID":"` + id + `","Port":80}}]`})
		set, err := src.Next(t.Context())
		if err != nil || len(set.Unreadable) != 1 {
			t.Fatalf("there is %v, %v", set, err)
		}
		if name := set.Unreadable[0].Entry; strings.Contains(name, token[:2]) || len(name) < before {
			t.Errorf("after %d bytes, the entry has the name %q", before, name)
		}
	}
}

// The list belongs to the newest answer, and is the same slice as long as it does not change.
func TestNext_ListsUnreadableEntries(t *testing.T) {
	bad, worse := `{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":0},"Checks":[{"Output":%q}]}`, `{"Service":{"ID":"bad","Service":"s","Address":"a b","Port":80}}`
	at := func(index string, entries ...string) answer {
		return answer{index: index, body: "[" + strings.Join(append([]string{codectest.Entry("a", "")}, entries...), ",") + "]"}
	}
	src, script := scripted(t, Config{}, registry.Query{}, at("10", fmt.Sprintf(bad, "1")))
	step := func(what string, a answer, want ...string) []registry.Unreadable {
		t.Helper()
		script.mu.Lock()
		script.answers = []answer{a}
		script.mu.Unlock()
		set, err := src.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range set.Unreadable {
			got = append(got, u.Entry+": "+u.Err.Error())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: it lists %q, want %q", what, got, want)
		}
		return set.Unreadable
	}
	const noPort, noHost = "bad: it has no port from 1 to 65535", "bad: its address is neither an IP address nor a DNS name"
	step("first", at("10", fmt.Sprintf(bad, "1")), noPort)
	before := step("other output of a check", at("11", fmt.Sprintf(bad, "2")), noPort)
	after := step("no change of it", at("12", fmt.Sprintf(bad, "2"), codectest.Entry("b", "")), noPort)
	if &before[0] != &after[0] {
		t.Error("the list was made again")
	}
	step("bad in another way", at("13", worse), noHost)
	step("two with one ID", at("14", worse, fmt.Sprintf(bad, "1")), noHost, strings.Replace(noPort, "bad", "bad (2)", 1))
	step("gone", at("15", codectest.Entry("b", "")))
}

// Many unreadable entries are all listed, each under a name of its own.
func TestNext_ListsManyUnreadableEntries(t *testing.T) {
	var all []string
	const n = 3 * jsondiff.MaxLeftOut
	for i := range n {
		all = append(all, fmt.Sprintf(`{"Service":{"ID":"bad-%d","Service":"s","Port":0}}`, i))
	}
	body := "[" + strings.Join(all, ",") + "," + codectest.Entry("a", "") + "]"
	src, _ := scripted(t, Config{}, registry.Query{}, answer{index: "10", body: body}, answer{index: "11", body: body})
	for range 2 {
		set, err := src.Next(t.Context())
		if err != nil || len(set.Instances) != 1 || set.Instances[0].ID != "a" {
			t.Fatalf("there is %v, %v", set.Instances, err)
		}
		names := map[string]bool{}
		for _, u := range set.Unreadable {
			names[u.Entry] = true
		}
		if len(names) != n {
			t.Errorf("it lists %d entries, want %d", len(names), n)
		}
	}
}

// An instance that cannot be dialled does not count for Limit, and does not keep Failover at its datacenter.
func TestLimit_CountsInstancesThatCanBeDialled(t *testing.T) {
	src, _ := scripted(t, Config{Limit: 1, Near: "_agent"}, registry.Query{},
		answer{index: "9", body: `[{"Service":{"ID":"bad","Service":"s","Port":0},"Node":{"Address":"10.0.0.1"}},` + codectest.Entry("a", "") + `]`})
	if got := next(t, src); got != "a" {
		t.Errorf("there is %q", got)
	}
}

// Other tools write entries to a real Consul. Each entry is found if it can be dialled, and is listed as unreadable otherwise.
func TestWatch_ReadsEntriesOfOtherTools(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	service := uniqueService()
	inAgent := func(s api.AgentServiceRegistration) {
		t.Helper()
		s.Name = service
		if err := operator.Agent().ServiceRegister(&s); err != nil {
			t.Fatal(err)
		}
	}
	inCatalog := func(node, address string, s api.AgentService) {
		t.Helper()
		s.Service = service
		if _, err := operator.Catalog().Register(&api.CatalogRegistration{Node: node, Address: address, Service: &s}, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{ // by ID: the address
		"host:web_1:8080": "10.1.0.1:8080", // registrator
		"_nomad-task-5ffe1d3c-b5b8-8d7f-b3ad-1b1b2c1e5a11-group-api-web-http-http": "10.1.0.2:23456",      // Nomad
		"web-7d4b9c6f5-x2x7q-" + service:                                           "10.1.0.3:8080",       // consul-k8s
		service:                                                                    "10.1.0.4:9000",       // its ID is the name
		"external":                                                                 "db.example.com:5432", // catalog, the address of the node
		"six":                                                                      "[2001:db8::5]:80",
		"bracketed":                                                                "[2001:db8::6]:80",
	}
	inAgent(api.AgentServiceRegistration{ID: "host:web_1:8080", Address: "10.1.0.1", Port: 8080})
	inAgent(api.AgentServiceRegistration{ID: "_nomad-task-5ffe1d3c-b5b8-8d7f-b3ad-1b1b2c1e5a11-group-api-web-http-http", Address: "10.1.0.2", Port: 23456,
		Tags: []string{"http"}, Meta: map[string]string{"external-source": "nomad"}})
	inAgent(api.AgentServiceRegistration{ID: "web-7d4b9c6f5-x2x7q-" + service, Address: "10.1.0.3", Port: 8080,
		Meta: map[string]string{"k8s-namespace": "default", "pod-name": "web-7d4b9c6f5-x2x7q", "managed-by": "consul-k8s-endpoints-controller"}})
	inAgent(api.AgentServiceRegistration{Address: "10.1.0.4", Port: 9000})
	inAgent(api.AgentServiceRegistration{ID: "six", Address: "2001:db8::5", Port: 80})
	inAgent(api.AgentServiceRegistration{ID: "bracketed", Address: "[2001:db8::6]", Port: 80})
	inCatalog("legacy", "db.example.com", api.AgentService{ID: "external", Port: 5432})
	bad := 0
	for _, s := range []api.AgentServiceRegistration{
		{ID: "no-port", Address: "10.1.0.5"}, {ID: "url", Address: "http://10.0.0.9", Port: 80}, {ID: "with-port", Address: "10.0.0.9:9000", Port: 80},
		{ID: "blank", Address: "a host", Port: 80}, {ID: "zone", Address: "fe80::1%eth0", Port: 80}, {ID: "path", Address: "/run/s.sock", Port: 80},
		{ID: "socket", SocketPath: "/run/s.sock"}, {ID: "forged", Address: "not a host\x1b[2J", Port: 80}, {ID: "id\x1b[2J", Address: "10.1.0.6", Port: 80},
		{ID: "high", Address: "10.1.0.7", Port: 99999}, {ID: "low", Address: "10.1.0.7", Port: -5},
	} {
		s.Name = service
		if err := operator.Agent().ServiceRegister(&s); err != nil {
			t.Logf("Consul refuses %q: %v", s.ID, err)
			continue
		}
		bad++
	}

	var log lockedBuffer
	r, err := New(Config{Address: agent.Addr(), Options: registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	w := watchtest.Watch(t, r, registry.Query{Service: service})
	p := w.Until("what can be dialled", watchtest.Healthy(len(want)))
	for _, in := range p.Set {
		if want[in.ID] != in.Address || in.Weight != 1 {
			t.Errorf("there is %+v", in)
		}
	}
	watchtest.Eventually(t, "the others are counted", func() bool { return r.CountUnreadable() == bad })
	if bad < 8 {
		t.Errorf("Consul accepts %d of the other entries, want most of them", bad)
	}
	inAgent(api.AgentServiceRegistration{ID: "last", Address: "10.1.0.8", Port: 80})
	w.Until("one more", watchtest.Healthy(len(want)+1))
	if lines := strings.Count(log.String(), "cannot be read"); lines != bad && bad <= 10 {
		t.Errorf("the log has %d lines about %d entries:\n%s", lines, bad, log.String())
	}
	if strings.Contains(log.String(), "\x1b") {
		t.Errorf("the log has an escape character: %q", log.String())
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

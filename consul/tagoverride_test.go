package consul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Tags that an operator wrote to the catalog survive the agent's own synchronisation, updates and a new registration.
func TestTags_OfAnOperatorSurvive(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	token := filepath.Join(t.TempDir(), "token")
	agenttest.WriteFile(t, token, "one")
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), EnableTagOverride: true, TokenFile: token})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1", Tags: []string{"mine"}})
	w.Until("its own tag", func(p watchtest.Pair) bool { in := p.Find("a"); return in != nil && slices.Contains(in.Tags, "mine") })

	entries, _, err := operator.Health().Service("s", "", false, nil)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	node, service := entries[0].Node, entries[0].Service
	service.Tags = []string{"theirs"}
	if _, err := operator.Catalog().Register(&api.CatalogRegistration{Node: node.Node, Address: node.Address, Service: service, SkipNodeUpdate: true}, nil); err != nil {
		t.Fatal(err)
	}
	theirs := func(p watchtest.Pair) bool {
		in := p.Find("a")
		return in != nil && slices.Equal(in.Tags, []string{"theirs"})
	}
	w.Until("the operator's tag", theirs)
	watchtest.Update(t, g, func(in *registry.Instance) { in.Metadata = map[string]string{"k": "v"} })
	w.Until("the update, with the operator's tag", func(p watchtest.Pair) bool { return theirs(p) && p.Find("a").Metadata["k"] == "v" })

	registrations := func() (n int) {
		for _, req := range proxy.Log() {
			if strings.HasSuffix(req.Path, "/register") {
				n++
			}
		}
		return n
	}
	before := registrations()
	agenttest.WriteFile(t, token, "two")
	watchtest.Eventually(t, "it is registered with another token", func() bool {
		return registrations() > before && proxy.InFlight(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/register") }) == 0
	})
	kept := func(what string) {
		t.Helper()
		entries, _, err = operator.Health().Service("s", "", false, nil)
		if err != nil || len(entries) != 1 || !slices.Equal(entries[0].Service.Tags, []string{"theirs"}) {
			t.Errorf("after %s the catalog has %+v, %v", what, entries[0].Service, err)
		}
	}
	kept("that")
	proxy.Refuse()
	watchtest.Eventually(t, "the registration is lost", func() bool { return g.Err() != nil })
	proxy.Heal()
	watchtest.Eventually(t, "it is registered again", func() bool { return g.Err() == nil })
	kept("a new registration")
}

// The catalog lags behind the agent. Old tags that it still shows are not an operator's, and must not undo a change.
func TestTags_OfACatalogThatLagsBehind(t *testing.T) {
	var written []string // the tags of each registration
	var catalog []*api.CatalogService
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/register"):
			var s api.AgentServiceRegistration
			if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
				t.Error(err)
			}
			written = append(written, strings.Join(s.Tags, " "))
			if len(written) == 1 { // later ones have yet to reach it
				catalog = []*api.CatalogService{{ServiceID: s.ID, ServiceMeta: s.Meta, ServiceTags: s.Tags}}
			}
		case strings.Contains(r.URL.Path, "/catalog/"):
			json.NewEncoder(w).Encode(catalog)
		case r.Method == http.MethodPut: // which Consul answers with nothing
		default:
			fmt.Fprint(w, "{}")
		}
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL, EnableTagOverride: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	with := func(version string, tags ...string) *registry.Instance {
		in := minimal()
		in.Version, in.Tags = version, tags
		return in
	}
	registered, err := d.Register(t.Context(), with("1", "a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := registered.(*lease)
	for _, in := range []*registry.Instance{with("2", "b"), with("3", "b")} {
		if err := l.write(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a", "b", "b"}; !slices.Equal(written, want) {
		t.Errorf("the tags were written as %q, want %q", written, want)
	}
}

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

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// What an operator has written to the catalog outlives the agent's own synchronisation, updates and a new announcement.
func TestTagOverride(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, "one")
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), EnableTagOverride: true, TokenFile: token})
	w := watch(t, r, registry.Query{Service: "s"})
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1", Tags: []string{"mine"}})
	w.until("its own tag", func(p pair) bool { in := p.find("a"); return in != nil && slices.Contains(in.Tags, "mine") })

	entries, _, err := operator.Health().Service("s", "", false, nil)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	node, service := entries[0].Node, entries[0].Service
	service.Tags = []string{"theirs"}
	if _, err := operator.Catalog().Register(&api.CatalogRegistration{Node: node.Node, Address: node.Address, Service: service, SkipNodeUpdate: true}, nil); err != nil {
		t.Fatal(err)
	}
	theirs := func(p pair) bool { in := p.find("a"); return in != nil && slices.Equal(in.Tags, []string{"theirs"}) }
	w.until("the operator's tag", theirs)
	update(t, g, func(in *registry.Instance) { in.Metadata = map[string]string{"k": "v"} })
	w.until("the update, with the operator's tag", func(p pair) bool { return theirs(p) && p.find("a").Metadata["k"] == "v" })

	registrations := func() (n int) {
		for _, req := range proxy.Log() {
			if strings.HasSuffix(req.Path, "/register") {
				n++
			}
		}
		return n
	}
	before := registrations()
	writeFile(t, token, "two")
	eventually(t, "it is registered with another token", func() bool {
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
	eventually(t, "the announcement is lost", func() bool { return g.Err() != nil })
	proxy.Heal()
	eventually(t, "it stands again", func() bool { return g.Err() == nil })
	kept("a new announcement")
}

// The catalog lags behind the agent: what it still says is not an operator's, and undoes no change.
func TestTagsOfACatalogThatLagsBehind(t *testing.T) {
	clearEnvironment(t)
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
	announced, err := d.Announce(t.Context(), with("1", "a"))
	if err != nil {
		t.Fatal(err)
	}
	l := announced.(*lease)
	for _, in := range []*registry.Instance{with("2", "b"), with("3", "b")} {
		if err := l.write(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a", "b", "b"}; !slices.Equal(written, want) {
		t.Errorf("the tags were written as %q, want %q", written, want)
	}
}

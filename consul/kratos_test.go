package consul

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// asKratosReads reads an entry as the client of kratos does. According to its documentation, the version comes from the tag, and the
// endpoints are the tagged addresses except for Consul's own.
func asKratosReads(e *api.ServiceEntry) (id, version string, endpoints []string) {
	for _, tag := range e.Service.Tags {
		if k, v, ok := strings.Cut(tag, "="); ok && k == "version" {
			version = v
		}
	}
	for scheme, a := range e.Service.TaggedAddresses {
		if !slices.Contains([]string{"lan_ipv4", "wan_ipv4", "lan_ipv6", "wan_ipv6", "lan", "wan"}, scheme) {
			endpoints = append(endpoints, a.Address)
		}
	}
	slices.Sort(endpoints)
	return e.Service.ID, version, endpoints
}

func TestFormat_KratosReadsTheEntries(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	writer := open(t, Config{Address: agent.Addr(), Format: FormatKratos})
	reader := open(t, Config{Address: agent.Addr()})
	for name, c := range map[string]struct {
		in        registry.Instance
		version   string
		endpoints []string
	}{
		"bare": {registry.Instance{ID: "a", Service: "bare", Address: "10.0.0.7:9000"}, "", []string{"grpc://10.0.0.7:9000?isSecure=false"}},
		"all of it": {registry.Instance{ID: "A", Service: "all", Address: "10.0.0.7:9000", Version: "1.2", Zone: "z", Weight: 7,
			Tags: []string{"x", "version=1.2", "version="}, Metadata: map[string]string{"team": "payments", "a key": "v"}, Status: registry.Warning,
			Endpoints: map[string]string{"http": "10.0.0.7:8000", "admin": "[2001:db8::7]:1", "no_scheme": "10.0.0.7:2", "1": "10.0.0.7:3"}},
			"1.2", []string{"admin://[2001:db8::7]:1?isSecure=false", "grpc://10.0.0.7:9000?isSecure=false", "http://10.0.0.7:8000?isSecure=false"}},
		"HTTP alone": {registry.Instance{ID: "a", Service: "http", Address: "10.0.0.7:8000", Endpoints: map[string]string{"http": "10.0.0.7:8000"}},
			"", []string{"http://10.0.0.7:8000?isSecure=false"}},
		"another gRPC": {registry.Instance{ID: "a", Service: "grpc", Address: "10.0.0.7:8000", Endpoints: map[string]string{"grpc": "10.0.0.7:9000"}},
			"", []string{"grpc://10.0.0.7:9000?isSecure=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchtest.Watch(t, reader, registry.Query{Service: c.in.Service, AnyStatus: true, Version: c.in.Version})
			g := watchtest.Register(t, writer, c.in)
			same := func(p watchtest.Pair) bool {
				in, want := p.Find(c.in.ID), g.Instance()
				return in != nil && in.Equal(&want)
			}
			w.Until("the instance as it was registered", same)
			entries, _, err := operator.Health().Service(c.in.Service, "", false, nil)
			if err != nil || len(entries) != 1 {
				t.Fatal(entries, err)
			}
			if _, version, endpoints := asKratosReads(entries[0]); version != c.version && len(c.in.Tags) == 0 || !slices.Equal(endpoints, c.endpoints) {
				t.Errorf("kratos reads version %q and %q, want %q and %q", version, endpoints, c.version, c.endpoints)
			}
			for k, v := range c.in.Metadata {
				if codec.IsPlainPair(k, v) && entries[0].Service.Meta[k] != v {
					t.Errorf("kratos does not find %s in the metadata %v", k, entries[0].Service.Meta)
				}
			}
			watchtest.Update(t, g, func(in *registry.Instance) {
				in.Status, in.Metadata = registry.Passing, map[string]string{"new": "1"}
			})
			w.Until("the update", same)
		})
	}
}

// A service changes to the format and back without a gap: a watch has the same instance all the time.
func TestFormat_ChangesWithoutAGap(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	in := registry.Instance{ID: "a", Service: "s", Address: net.JoinHostPort("10.0.0.7", "9000"), Version: "1", Tags: []string{"t"}}
	w := watchtest.Watch(t, open(t, Config{Address: agent.Addr()}), registry.Query{Service: "s"})
	want := in
	want.Weight = 1
	for _, format := range []string{FormatRollcall, FormatKratos, FormatRollcall} {
		watchtest.Register(t, open(t, Config{Address: agent.Addr(), Format: format}), in)
		w.Until("the instance", func(p watchtest.Pair) bool { got := p.Find("a"); return got != nil && got.Equal(&want) })
	}
	for _, p := range w.All()[1:] {
		if p.Err != nil || len(p.Set) > 1 || len(p.Set) == 1 && (!slices.Equal(p.Set[0].Tags, in.Tags) || !maps.Equal(p.Set[0].Endpoints, in.Endpoints)) {
			t.Errorf("in between it was %v", p)
		}
	}
}

func TestConfig_RefusesAnUnknownFormat(t *testing.T) {
	if err := (Config{Format: "naming"}).check(); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `"naming"`) {
		t.Error(err)
	}
}

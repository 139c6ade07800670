package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// throughConsul changes a registration as Consul does: it refuses what Consul refuses, and adds what Consul adds.
func throughConsul(in *registry.Instance) (*registry.Instance, error) {
	reg, err := Encode(in, Form{ServiceID: ServiceID(in.Service, in.ID), Owner: "OWNER"})
	if err != nil {
		return nil, err
	}
	if err := refusal(reg); err != nil {
		return nil, fmt.Errorf("Consul would refuse the registration: %w", err)
	}
	text, err := json.Marshal(reg)
	if err != nil {
		return nil, err
	}
	var stored api.AgentServiceRegistration
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, err
	}
	if stored.TaggedAddresses == nil {
		stored.TaggedAddresses = map[string]api.ServiceAddress{}
	}
	for _, name := range []string{"lan_ipv4", "wan_ipv4"} {
		stored.TaggedAddresses[name] = api.ServiceAddress{Address: stored.Address, Port: stored.Port}
	}
	if stored.Tags == nil {
		stored.Tags = []string{}
	}
	return decoded(&api.ServiceEntry{
		Node: &api.Node{Address: "192.0.2.9"},
		Service: &api.AgentService{
			ID: stored.ID, Service: stored.Name, Tags: stored.Tags, Meta: stored.Meta, Address: stored.Address, Port: stored.Port,
			TaggedAddresses: stored.TaggedAddresses, Weights: *stored.Weights,
		},
		Checks: api.HealthChecks{{CheckID: "serfHealth", Status: api.HealthPassing}, {CheckID: "rollcall:" + stored.ID, Status: InitialStatus(in.Status)}},
	}), nil
}

// decoded returns the instance of an entry in an answer of Consul.
func decoded(e *api.ServiceEntry) *registry.Instance {
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	in, err := Decode(raw)
	if err != nil {
		panic(err)
	}
	return in
}

var metaKey = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// refusal has the rules of Consul 1.19.2 (agent/structs.ValidateServiceMetadata and the agent's check of the address).
func refusal(reg *api.AgentServiceRegistration) error {
	if len(reg.Meta) > 64 {
		return fmt.Errorf("%d pairs of meta", len(reg.Meta))
	}
	for k, v := range reg.Meta {
		if !metaKey.MatchString(k) || len(k) > 128 || strings.HasPrefix(k, "consul-") || len(v) > 512 || !utf8.ValidString(v) {
			return fmt.Errorf("the pair of meta %q: %q", k, v)
		}
	}
	if reg.Address == "0.0.0.0" || reg.Address == "::" {
		return errors.New("an unspecified address")
	}
	return nil
}

func smallest() *registry.Instance {
	return &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
}

func TestEncode_KeepsEveryField(t *testing.T) {
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprintf("key-%03d", i)] = strings.Repeat("v", i)
	}
	for name, change := range map[string]func(*registry.Instance){
		"minimal":          func(*registry.Instance) {},
		"IPv6":             func(in *registry.Instance) { in.Address = "[2001:db8::1]:80" },
		"host name":        func(in *registry.Instance) { in.Address = "web.example.com:80" },
		"odd port":         func(in *registry.Instance) { in.Address = "10.0.0.1:0080" },
		"upper case":       func(in *registry.Instance) { in.ID, in.Service = "A-1:b", "User.Service" },
		"weight":           func(in *registry.Instance) { in.Weight = 65535 },
		"warning":          func(in *registry.Instance) { in.Status = registry.Warning },
		"critical":         func(in *registry.Instance) { in.Status = registry.Critical },
		"version and zone": func(in *registry.Instance) { in.Version, in.Zone = "1.2.3", "zürich-1" },
		"long version":     func(in *registry.Instance) { in.Version, in.Zone = strings.Repeat("é", 300), strings.Repeat("z", 513) },
		"tags in order":    func(in *registry.Instance) { in.Tags = []string{"b", "a", "b", "日本", "a=b,c"} },
		"plain metadata":   func(in *registry.Instance) { in.Metadata = map[string]string{"a": "", "B_-1": "x\x00y"} },
		"metadata at limit": func(in *registry.Instance) {
			in.Metadata = map[string]string{strings.Repeat("k", 128): strings.Repeat("é", 256)}
		},
		"long values": func(in *registry.Instance) {
			in.Metadata = map[string]string{"a": strings.Repeat("日本語", 700), strings.Repeat("k", 129): "x"}
		},
		"odd keys": func(in *registry.Instance) {
			in.Metadata = map[string]string{"a.b": "1", "schlüssel": "2", " ": "3", "<&>": "\u2028"}
		},
		"reserved keys": func(in *registry.Instance) {
			in.Version = "v"
			in.Metadata = map[string]string{"version": "1", "zone": "2", "rollcall-owner": "3", "rollcall-more-0": "4", "consul-x": "5"}
		},
		"keys of unset fields": func(in *registry.Instance) { in.Metadata = map[string]string{"version": "", "zone": "x"} },
		"many keys":            func(in *registry.Instance) { in.Metadata = many },
		"endpoints": func(in *registry.Instance) {
			in.Endpoints = map[string]string{"http": "10.0.0.1:81", "lan": "[::1]:82", "virtual": "a:83", "ü.n/x": "b.example:84", "odd": "c:085"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := smallest()
			change(in)
			if err := in.Validate(); err != nil {
				t.Fatal(err)
			}
			before := in.Clone()
			got, err := throughConsul(in)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(in) {
				t.Errorf("registered %+v\n      read %+v", in, got)
			}
			if !before.Equal(in) {
				t.Error("it was changed")
			}
		})
	}
}

func TestEncode_RefusesWhatDoesNotFit(t *testing.T) {
	in := smallest()
	in.Metadata = map[string]string{"blob": strings.Repeat("x", 64*512)}
	_, err := throughConsul(in)
	if !errors.Is(err, registry.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"66 pairs", "512 bytes", "64"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestServiceID_HasNoCollisions(t *testing.T) {
	seen := map[string]string{}
	for _, service := range []string{"user", "User", "USER", "user-a"} {
		for _, id := range []string{"a", "A", "a:a", "a:A", "A:a", "a" + SidecarSuffix, "A" + SidecarSuffix} {
			s := strings.ToLower(ServiceID(service, id)) // as the catalog has it
			for _, s := range []string{s, s + SidecarSuffix} {
				if other, ok := seen[s]; ok {
					t.Errorf("%s/%s and %s have one ID: %s", service, id, other, s)
				}
				seen[s] = service + "/" + id
			}
		}
	}
}

func TestDecode_ForeignEntries(t *testing.T) {
	got := decoded(&api.ServiceEntry{
		Node: &api.Node{Address: "192.0.2.9"},
		Service: &api.AgentService{
			ID: "web:1~x", Service: "web", Port: 80, Tags: []string{"t"},
			Meta: map[string]string{"version": "1", "zone": "z", "rollcall-more-0": "{", "k": "v"},
			TaggedAddresses: map[string]api.ServiceAddress{
				"lan": {Address: "192.0.2.9", Port: 80}, "admin": {Address: "192.0.2.9", Port: 81}, "grpc": {Address: "grpc://192.0.2.9:82"},
			},
		},
		Checks: api.HealthChecks{{CheckID: "x", Status: api.HealthPassing}, {CheckID: "_node_maintenance", Status: api.HealthCritical}},
	})
	want := &registry.Instance{
		ID: "1~x", Service: "web", Address: "192.0.2.9:80", Version: "1", Zone: "z", Tags: []string{"t"},
		Metadata:  map[string]string{"version": "1", "zone": "z", "rollcall-more-0": "{", "k": "v"},
		Endpoints: map[string]string{"admin": "192.0.2.9:81"}, Status: registry.Maintenance, Weight: registry.Drained,
	}
	if !got.Equal(want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestDecode_SurvivesAChangedOverflow(t *testing.T) {
	for _, more := range []string{"{", "null", "[]", `{"address":1}`} {
		got := decoded(&api.ServiceEntry{
			Node:    &api.Node{},
			Service: &api.AgentService{ID: "s:a", Service: "s", Address: "10.0.0.1", Port: 80, Meta: map[string]string{MetaOwner: "o", metaMore + "0": more, "k": "v"}},
		})
		if got.ID != "a" || got.Address != "10.0.0.1:80" || got.Metadata["k"] != "v" {
			t.Errorf("with %s it is %+v", more, got)
		}
	}
}

func TestStatus_IsTheWorstOfAllChecks(t *testing.T) {
	for want, checks := range map[registry.Status][]check{
		registry.Passing:     {{"serfHealth", "passing"}, {"a", "passing"}},
		registry.Warning:     {{"a", "passing"}, {"b", "warning"}},
		registry.Critical:    {{"a", "warning"}, {"b", "critical"}},
		registry.Maintenance: {{"a", "critical"}, {"_service_maintenance:s:a", "critical"}},
	} {
		if got := status(checks); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if got := status([]check{{"a", "unheard of"}}); got != registry.Critical {
		t.Errorf("a check of an unknown status is %v", got)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("a", "s", "10.0.0.1:80", "1", "z", "t", "k", "v", "http", "[::1]:81", uint8(1), uint8(1))
	f.Add("A", "S", "h:080", "é", "", "=", "version", strings.Repeat("日本", 300), "lan", "h:1", uint8(70), uint8(3))
	f.Add("a:B", "s.t", "[2001:db8::1]:1", strings.Repeat("v", 600), "\x00", "\u2028", "rollcall-owner", "\"\\", "virtual", "0.0.0.0:1", uint8(200), uint8(2))
	f.Fuzz(func(t *testing.T, id, service, address, version, zone, tag, key, value, name, endpoint string, n, status uint8) {
		in := &registry.Instance{
			ID: id, Service: service, Address: address, Version: version, Zone: zone, Tags: []string{tag, tag + "2"},
			Metadata: map[string]string{key: value}, Endpoints: map[string]string{name: endpoint},
			Weight: int(n) + 1, Status: registry.Status(status % 3), // maintenance is Consul's own check
		}
		for i := range n {
			in.Metadata[fmt.Sprint(key, i)] = value
		}
		if in.Validate() != nil || id == "" || strings.HasPrefix(address, ":") || strings.HasPrefix(address, "0.0.0.0:") || strings.HasPrefix(address, "[::]:") {
			return // package registry lets no driver see it
		}
		got, err := throughConsul(in)
		switch {
		case errors.Is(err, registry.ErrInvalid):
		case err != nil:
			t.Fatal(err)
		case !got.Equal(in):
			t.Fatalf("registered %+v\n      read %+v", in, got)
		}
	})
}

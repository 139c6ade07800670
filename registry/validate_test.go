package registry_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/registry"
)

func TestValidateNamesTheFieldAndTheValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*registry.Instance)
		want  string
	}{
		{"no service", func(in *registry.Instance) { in.Service = "" }, "Service: is required"},
		{"a slash", func(in *registry.Instance) { in.Service = "a/b" }, `Service: "a/b" holds '/'`},
		{"a question mark", func(in *registry.Instance) { in.Service = "a?passing" }, `Service: "a?passing" holds '?'`},
		{"a colon in the service", func(in *registry.Instance) { in.Service = "a:b" }, `Service: "a:b" holds ':'`},
		{"a path", func(in *registry.Instance) { in.Service = ".." }, `Service: ".." does not start with`},
		{"a space", func(in *registry.Instance) { in.Service = "a b" }, `holds ' '`},
		{"a letter beyond ASCII", func(in *registry.Instance) { in.Service = "bär" }, `holds 'ä'`},
		{"a long service", func(in *registry.Instance) { in.Service = strings.Repeat("a", 129) }, "has 129 bytes, more than 128"},
		{"a bad ID", func(in *registry.Instance) { in.ID = "a#1" }, `ID: "a#1" holds '#'`},
		{"a long ID", func(in *registry.Instance) { in.ID = strings.Repeat("a", 256) }, "has 256 bytes, more than 255"},
		{"no address", func(in *registry.Instance) { in.Address = "" }, "Address: is required"},
		{"no port", func(in *registry.Instance) { in.Address = "10.0.0.1" }, `Address: "10.0.0.1" is not host:port`},
		{"IPv6 without brackets", func(in *registry.Instance) { in.Address = "::1:80" }, `Address: "::1:80" is not host:port`},
		{"port 0", func(in *registry.Instance) { in.Address = "h:0" }, `Address: "h:0" has no port from 1 to 65535`},
		{"a named port", func(in *registry.Instance) { in.Address = "h:http" }, "has no port from 1 to 65535"},
		{"a large port", func(in *registry.Instance) { in.Address = "h:65536" }, "has no port from 1 to 65535"},
		{"an IPv6 zone", func(in *registry.Instance) { in.Address = "[fe80::1%eth0]:80" }, "has an IPv6 zone"},
		{"a URL", func(in *registry.Instance) { in.Address = "http://h:80" }, "is not host:port"},
		{"a bad host", func(in *registry.Instance) { in.Address = "a/b:80" }, `holds '/'`},
		{"a bad endpoint", func(in *registry.Instance) { in.Endpoints = map[string]string{"http": "x"} }, `Endpoints["http"]: "x" is not host:port`},
		{"a nameless endpoint", func(in *registry.Instance) { in.Endpoints = map[string]string{"": "h:1"} }, "Endpoints: name: is empty"},
		{"an empty tag", func(in *registry.Instance) { in.Tags = []string{"a", ""} }, "Tags[1]: is empty"},
		{"a tag that is no text", func(in *registry.Instance) { in.Tags = []string{"\xff"} }, `Tags[0]: "\xff" is not valid UTF-8`},
		{"a version that is no text", func(in *registry.Instance) { in.Version = "\xff" }, "Version: "},
		{"a zone that is no text", func(in *registry.Instance) { in.Zone = "\xff" }, "Zone: "},
		{"an empty key", func(in *registry.Instance) { in.Metadata = map[string]string{"": "v"} }, "Metadata: key: is empty"},
		{"metadata that is no text", func(in *registry.Instance) { in.Metadata = map[string]string{"k": "private\xff"} }, `Metadata["k"]: the value is not`},
		{"a negative weight", func(in *registry.Instance) { in.Weight = -1 }, "Weight: -1 is not from 0 to 65535"},
		{"a large weight", func(in *registry.Instance) { in.Weight = 65536 }, "Weight: 65536 is not from"},
		{"no status", func(in *registry.Instance) { in.Status = 4 }, "Status: 4 is none of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := full.Clone()
			c.spoil(in)
			err := in.Validate()
			if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "private") {
				t.Errorf("Validate() = %v, want it to say %s", err, c.want)
			}
			synctest.Test(t, func(t *testing.T) {
				d := newFake()
				if _, err := newRegistry(t, d, registry.Options{}).Register(t.Context(), *in); !errors.Is(err, registry.ErrInvalid) || d.count(&d.announces) > 0 {
					t.Errorf("Register says %v after %d announcements", err, d.count(&d.announces))
				}
			})
		})
	}
	two := registry.Instance{Service: "a/b", Address: "h", Weight: -1}
	for _, want := range []string{"Service: ", "Address: ", "Weight: "} {
		if err := two.Validate(); !strings.Contains(err.Error(), want) {
			t.Errorf("of several faults %q is not named: %v", want, err)
		}
	}
	if err := full.Validate(); err != nil {
		t.Errorf("a full instance is refused: %v", err)
	}
	for _, address := range []string{":80", "0.0.0.0:80", "[::]:80", "[::1]:80", "db-1.example_x.org:65535"} {
		if err := (&registry.Instance{Service: "grpc.health.v1.Health", Address: address}).Validate(); err != nil {
			t.Errorf("%s is refused: %v", address, err)
		}
	}
}

func TestQueryValidate(t *testing.T) {
	for _, q := range []registry.Query{
		{}, {Service: "a b"}, {Service: "a", Tags: []string{""}}, {Service: "a", Version: "\xff"}, {Service: "a", Metadata: map[string]string{"": ""}},
	} {
		if err := q.Validate(); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%+v is accepted: %v", q, err)
		}
	}
	if err := (registry.Query{Service: "a", Tags: []string{"ä"}, Version: "1", Metadata: map[string]string{"k": ""}}).Validate(); err != nil {
		t.Error(err)
	}
}

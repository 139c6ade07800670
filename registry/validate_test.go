package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

func TestInstanceValidate_NamesTheFieldAndTheValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*registry.Instance)
		want  string
	}{
		{"no service", func(in *registry.Instance) { in.Service = "" }, "Service is required"},
		{"a slash", func(in *registry.Instance) { in.Service = "a/b" }, `Service: "a/b" contains '/'`},
		{"a '?'", func(in *registry.Instance) { in.Service = "a?passing" }, `Service: "a?passing" contains '?'`},
		{"a colon in the service", func(in *registry.Instance) { in.Service = "a:b" }, `Service: "a:b" contains ':'`},
		{"a path", func(in *registry.Instance) { in.Service = ".." }, `Service: ".." does not start with`},
		{"a space", func(in *registry.Instance) { in.Service = "a b" }, `contains ' '`},
		{"a letter beyond ASCII", func(in *registry.Instance) { in.Service = "bär" }, `contains 'ä'`},
		{"a long service", func(in *registry.Instance) { in.Service = strings.Repeat("a", 129) }, "has 129 bytes, more than 128"},
		{"a bad ID", func(in *registry.Instance) { in.ID = "a#1" }, `ID: "a#1" contains '#'`},
		{"a long ID", func(in *registry.Instance) { in.ID = strings.Repeat("a", 256) }, "has 256 bytes, more than 255"},
		{"no address", func(in *registry.Instance) { in.Address = "" }, "Address is required, as host:port"},
		{"no port", func(in *registry.Instance) { in.Address = "10.0.0.1" }, `Address: "10.0.0.1" is not host:port`},
		{"IPv6 without brackets", func(in *registry.Instance) { in.Address = "::1:80" }, `Address: "::1:80" is not host:port`},
		{"port 0", func(in *registry.Instance) { in.Address = "h:0" }, `Address: "h:0" has no port from 1 to 65535`},
		{"a named port", func(in *registry.Instance) { in.Address = "h:http" }, "has no port from 1 to 65535"},
		{"a large port", func(in *registry.Instance) { in.Address = "h:65536" }, "has no port from 1 to 65535"},
		{"an IPv6 zone", func(in *registry.Instance) { in.Address = "[fe80::1%eth0]:80" }, "has an IPv6 zone"},
		{"a URL", func(in *registry.Instance) { in.Address = "http://h:80" }, "is not host:port"},
		{"a bad host", func(in *registry.Instance) { in.Address = "a/b:80" }, `contains '/'`},
		{"a bad endpoint", func(in *registry.Instance) { in.Endpoints = map[string]string{"http": "x"} }, `Endpoints["http"]: "x" is not host:port`},
		{"a nameless endpoint", func(in *registry.Instance) { in.Endpoints = map[string]string{"": "h:1"} }, "A name in Endpoints is empty"},
		{"an empty tag", func(in *registry.Instance) { in.Tags = []string{"a", ""} }, "Tags[1] is empty"},
		{"a tag that is no text", func(in *registry.Instance) { in.Tags = []string{"\xff"} }, `Tags[0]: "\xff" is not valid UTF-8`},
		{"a version that is no text", func(in *registry.Instance) { in.Version = "\xff" }, "Version: "},
		{"a zone that is no text", func(in *registry.Instance) { in.Zone = "\xff" }, "Zone: "},
		{"an empty key", func(in *registry.Instance) { in.Metadata = map[string]string{"": "v"} }, "A key in Metadata is empty"},
		{"metadata that is no text", func(in *registry.Instance) { in.Metadata = map[string]string{"k": "private\xff"} }, `Metadata["k"]: the value is not`},
		{"a negative weight", func(in *registry.Instance) { in.Weight = -2 }, "Weight: -2 is not from -1 (drained) to 65535"},
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
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				if _, err := newRegistry(t, d, registry.Options{}).Register(t.Context(), *in); !errors.Is(err, registry.ErrInvalid) || d.count(&d.registers) > 0 {
					t.Errorf("Register says %v after %d calls of the driver", err, d.count(&d.registers))
				}
			})
		})
	}
	three := registry.Instance{Address: "h", Tags: []string{"", "a", ""}}
	want := `invalid: Service is required; Address: "h" is not host:port (an IPv6 host must be in brackets); Tags[0] is empty; Tags[2] is empty`
	if err := three.Validate(); err.Error() != want || !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("Validate() = %v, want %s", err, want)
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

func TestQueryValidate_RefusesBadFields(t *testing.T) {
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

package consul

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// Formats that [Config].Format names.
const (
	FormatRollcall = "rollcall"
	FormatKratos   = "kratos" // kratos v2, contrib/registry/consul
)

// metaForm is the key of the meta that says what stands in the entry of ours for the sake of another framework.
const (
	metaForm = "rollcall-form"

	formKratos     = "kratos"
	formKratosGRPC = "kratos+grpc" // the address of the instance stands as the endpoint grpc too
)

// form is what the key metaForm has to say in the entry of in: nothing in our own format.
func (s *settings) form(in *registry.Instance) string {
	switch {
	case s.format() != FormatKratos:
		return ""
	case in.Endpoints["grpc"] != "" || slices.Contains(slices.Collect(maps.Values(in.Endpoints)), in.Address):
		return formKratos
	}
	return formKratosGRPC
}

// toKratos makes s, the registration of in with that form, one that clients of kratos understand too: the endpoints are whole
// URLs in the tagged addresses, and the version is a tag. They take the ID, the name and the meta as they stand.
func toKratos(in *registry.Instance, s *api.AgentServiceRegistration) {
	named := func(name, hostPort string, port int) {
		u := url.URL{Scheme: name, Host: hostPort, RawQuery: "isSecure=false"}
		s.TaggedAddresses[name] = api.ServiceAddress{Address: u.String(), Port: port}
	}
	for name, a := range s.TaggedAddresses {
		named(name, in.Endpoints[name], a.Port)
	}
	if s.Meta[metaForm] == formKratosGRPC {
		named("grpc", in.Address, s.Port)
	}
	s.Tags = append(slices.Clone(s.Tags), metaVersion+"="+in.Version)
}

// isScheme reports whether name can begin a URL: see RFC 3986, section 3.1.
func isScheme(name string) bool {
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", c)) {
			return false
		}
	}
	return name != ""
}

// fromKratos takes from in, which was read from s, an entry of ours, what toKratos has put there.
func fromKratos(in *registry.Instance, s *service) {
	form := s.Meta[metaForm]
	if form != formKratos && form != formKratosGRPC {
		return
	}
	endpoints := map[string]string{}
	maps.Copy(endpoints, in.Endpoints)
	for name, a := range s.TaggedAddresses {
		u, err := url.Parse(a.Address)
		if delete(endpoints, name); err == nil && u.Host != "" && (name != "grpc" || form != formKratosGRPC) {
			endpoints[name] = u.Host
		}
	}
	if in.Endpoints = endpoints; len(endpoints) == 0 {
		in.Endpoints = nil
	}
	for i, tag := range slices.Backward(in.Tags) {
		if tag != metaVersion+"="+in.Version {
			continue
		}
		in.Tags = slices.Delete(slices.Clone(in.Tags), i, i+1) // s stays as it is
		if len(in.Tags) == 0 {
			in.Tags = nil
		}
		return
	}
}

// format is that of the settings, with its default.
func (c Config) format() string { return cmp.Or(c.Format, FormatRollcall) }

package codec

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// metaForm is the key of the meta that says what an entry of this package has for the sake of another framework.
const (
	metaForm = "rollcall-form"

	formKratos     = "kratos"
	formKratosGRPC = "kratos+grpc" // the address of the instance is the endpoint grpc too
)

// kratosForm returns the value of metaForm for an entry in the form of kratos.
func kratosForm(in *registry.Instance) string {
	if in.Endpoints["grpc"] != "" || slices.Contains(slices.Collect(maps.Values(in.Endpoints)), in.Address) {
		return formKratos
	}
	return formKratosGRPC
}

// toKratos changes s, the registration of in, so that clients of kratos understand it too: the endpoints are URLs in the tagged addresses, and
// the version is a tag. These clients take the ID, the name and the meta as they are.
func toKratos(in *registry.Instance, s *api.AgentServiceRegistration) {
	named := func(name, hostPort string, port int) {
		u := url.URL{Scheme: name, Host: hostPort, RawQuery: "isSecure=false"}
		s.TaggedAddresses[name] = api.ServiceAddress{Address: u.String(), Port: port}
	}
	for name, a := range s.TaggedAddresses {
		if !reservedAddress(name) {
			named(name, in.Endpoints[name], a.Port)
		}
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

// fromKratos removes from in what toKratos added. in was read from s, an entry of this package.
func fromKratos(in *registry.Instance, s *service) {
	form := s.Meta[metaForm]
	if form != formKratos && form != formKratosGRPC {
		return
	}
	endpoints := map[string]string{}
	maps.Copy(endpoints, in.Endpoints)
	for name, a := range s.TaggedAddresses {
		if reservedAddress(name) {
			continue
		}
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

// readKratos adds to in, which was read from s, what kratos itself writes. It reports whether s is an entry of kratos.
func readKratos(in *registry.Instance, s *service) (found bool) {
	endpoints := map[string]string{}
	for name, a := range s.TaggedAddresses {
		if a.Port == 0 || !strings.Contains(a.Address, "://") {
			continue // kratos writes the port beside the URL too
		}
		found = true
		delete(in.Endpoints, name)
		if u, err := url.Parse(a.Address); err == nil && u.Hostname() != "" && u.Port() != "" {
			endpoints[name] = u.Host
		}
	}
	if !found {
		return false
	}
	in.Endpoints = join(in.Endpoints, endpoints)
	if address := endpoints["grpc"]; address != "" {
		in.Address = address
	}
	var tags []string // others, since s stays as it is
	for _, tag := range s.Tags {
		if version, ok := strings.CutPrefix(tag, "version="); ok {
			if in.Version == "" {
				in.Version = version
			}
			continue
		}
		tags = append(tags, tag)
	}
	in.Tags = tags
	return true
}

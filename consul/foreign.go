package consul

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// readForeign adds to in, which was read from s as it stands, what other frameworks write in forms of their own and can be
// told by:
//
//   - kratos writes whole URLs into the tagged addresses, grpc://10.0.0.7:9000?isSecure=false under "grpc", and its version
//     as a tag, version=1.2. The gRPC endpoint is the address, where there is one.
//   - kitex names its entries service:host:port, has no meta, and writes its own as tags, key:value.
//
// Spring Cloud writes plain entries, with its zone in the meta.
func readForeign(in *registry.Instance, s *service) {
	switch {
	case readKratos(in, s):
	case s.ID == s.Service+":"+net.JoinHostPort(s.Address, strconv.Itoa(s.Port)) && len(s.Meta) == 0:
		readKitex(in, s)
	}
}

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

// readKitex leaves the tags where they are: others name their entries so too, and their tags may be meant as tags.
func readKitex(in *registry.Instance, s *service) {
	for _, tag := range s.Tags {
		key, value, ok := strings.Cut(tag, ":")
		if !ok || key == "" {
			continue
		}
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		in.Metadata[key] = value
	}
}

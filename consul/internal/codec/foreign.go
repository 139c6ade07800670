package codec

import (
	"net"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// readForeign adds to in, which was read from s as it is, what other frameworks write in forms of their own:
//
//   - kratos writes URLs into the tagged addresses, grpc://10.0.0.7:9000?isSecure=false under "grpc", and its version as a tag, version=1.2.
//     The gRPC endpoint is the address, if there is one.
//   - kitex names its entries service:host:port, has no meta, and writes its metadata as tags, key:value.
//
// Spring Cloud writes plain entries, with its zone in the meta.
func readForeign(in *registry.Instance, s *service) {
	switch {
	case readKratos(in, s):
	case s.ID == s.Service+":"+net.JoinHostPort(s.Address, strconv.Itoa(s.Port)) && len(s.Meta) == 0:
		readKitex(in, s)
	}
}

// readKitex adds the tags of s to the metadata, and leaves them among the tags: other writers name their entries so too.
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

package choose

import (
	"net"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// MetaPrefix comes before the key of a metadata entry, in TLSName and in parameters.
const MetaPrefix = "meta."

// ServerName returns the name that the certificate of in must have. "" means the name of the service.
func (r *Rules) ServerName(in *registry.Instance) string {
	switch key, ok := strings.CutPrefix(r.TLSName, MetaPrefix); {
	case ok:
		return in.Metadata[key]
	case r.TLSName == "":
		return ""
	}
	host, _, err := net.SplitHostPort(r.AddressOf(in))
	if err != nil {
		return ""
	}
	return host
}

// CheckTLSName reports whether name is a usable TLSName.
func CheckTLSName(name string) bool {
	key, ok := strings.CutPrefix(name, MetaPrefix)
	return name == "" || name == "host" || ok && key != ""
}

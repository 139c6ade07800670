package consul

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// decodeProxy decodes an entry of a lookup with connect=true: an instance that speaks Connect itself, or the sidecar in front
// of one, which has the address to dial and is given the name and the ID of what is behind it.
func decodeProxy(raw []byte) (*registry.Instance, error) {
	in, err := decodeEntry(raw)
	if err != nil {
		return nil, err
	}
	var e struct {
		Service struct {
			Kind    string
			Address string
			Port    int
			Meta    map[string]string
			Proxy   struct{ DestinationServiceName, DestinationServiceID string }
		}
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	behind := e.Service.Proxy
	if e.Service.Kind != "connect-proxy" || behind.DestinationServiceName == "" {
		return in, nil
	}
	in.Service = behind.DestinationServiceName
	if e.Service.Address != "" {
		// The meta, which Consul copies, may hold the address of what is behind it.
		in.Address = joinAddress(e.Service.Address, e.Service.Port)
	}
	// A proxy for the service as a whole has an ID of its own alone.
	in.ID = cmp.Or(behind.DestinationServiceID, in.ID)
	if id, ok := strings.CutPrefix(in.ID, in.Service+":"); ok && id != "" {
		in.ID = id
	}
	if e.Service.Meta[metaOwner] != "" {
		in.ID, _, _ = strings.Cut(in.ID, "~")
	}
	return in, nil
}

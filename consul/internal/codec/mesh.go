package codec

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// DecodeConnect decodes an entry of a lookup with connect=true: an instance that speaks Connect itself, or a sidecar. A sidecar has the address
// to dial, and gets the name and the ID of the instance behind it.
func DecodeConnect(raw []byte) (*registry.Instance, error) {
	in, err := Decode(raw)
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
		// The meta, which Consul copies, may have the address of the instance behind it.
		in.Address = joinAddress(e.Service.Address, e.Service.Port)
	}
	// A proxy for the service as a whole has only an ID of its own.
	in.ID = cmp.Or(behind.DestinationServiceID, in.ID)
	if id, ok := strings.CutPrefix(in.ID, in.Service+":"); ok && id != "" {
		in.ID = id
	}
	if e.Service.Meta[MetaOwner] != "" {
		in.ID, _, _ = strings.Cut(in.ID, "~")
	}
	return in, nil
}

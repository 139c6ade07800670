package format

import (
	"encoding/json"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// ownFormat is Rollcall's own format: the documented JSON form of [registry.Instance].
type ownFormat struct{}

const ownPrefix = "/rollcall/"

func (ownFormat) Prefix() string { return ownPrefix }

func (ownFormat) Encode(in *registry.Instance) ([]byte, error) { return marshal(in, in) }

// Decode takes the ID and the service from the key if the value has none. It refuses a value whose ID or service differs from the key,
// because the key identifies the entry in later changes and deletions. The default weight is 1. With a weight of 0 or less, the
// instance is drained.
func (ownFormat) Decode(service, id string, value []byte) (*registry.Instance, error) {
	in := &registry.Instance{Weight: 1}
	if id == "" {
		return nil, errNoID
	}
	if err := json.Unmarshal(value, in); err != nil {
		return nil, err
	}
	if in.ID == "" {
		in.ID = id
	}
	if in.Service == "" {
		in.Service = service
	}
	if in.ID != id || in.Service != service {
		return nil, fmt.Errorf("it is instance %q of service %q, which differs from its key", in.ID, in.Service)
	}
	weight := readWeight(in.Weight)
	in.Weight = max(0, in.Weight)
	err := in.Validate()
	in.Weight = weight
	return in, err
}

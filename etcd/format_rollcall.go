package etcd

import (
	"encoding/json"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// ownFormat is our own: the documented JSON form of [registry.Instance].
type ownFormat struct{}

func (ownFormat) prefix() string { return DefaultPrefix }

func (ownFormat) encode(in *registry.Instance) ([]byte, error) { return marshal(in, in) }

// decode takes the ID and the service from the key where the value has none. It refuses a value that is another instance than
// the key says: the key decides which entry a later change or deletion means. One without a weight has that of most, and not
// 0, which would mean that it drains.
func (ownFormat) decode(service, id string, value []byte) (*registry.Instance, error) {
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
		return nil, fmt.Errorf("it is instance %q of service %q, not that of its key", in.ID, in.Service)
	}
	return in, in.Validate()
}

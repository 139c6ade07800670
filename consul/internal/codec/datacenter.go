package codec

import (
	"encoding/json"

	"github.com/rollcall-go/rollcall/registry"
)

// MetaDatacenter is the key of the metadata that [WithDatacenter] adds.
const MetaDatacenter = "consul-datacenter"

// WithDatacenter returns a function that decodes an entry as decode does, and notes its datacenter. A nil decode is [Decode].
func WithDatacenter(decode func([]byte) (*registry.Instance, error)) func([]byte) (*registry.Instance, error) {
	if decode == nil {
		decode = Decode
	}
	return func(raw []byte) (*registry.Instance, error) {
		in, err := decode(raw)
		if err != nil {
			return nil, err
		}
		var e struct{ Node struct{ Datacenter string } }
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		in.Metadata[MetaDatacenter] = e.Node.Datacenter
		return in, nil
	}
}

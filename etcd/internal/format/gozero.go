package format

import (
	"github.com/rollcall-go/rollcall/registry"
)

// goZeroFormat is the format of github.com/zeromicro/go-zero/core/discov, whose keys are prefix + service: the value is the bare address.
// Its own publishers use a number as the ID, and its subscribers ignore the ID.
type goZeroFormat struct{}

// Prefix is empty: go-zero is configured with whole keys, such as user.rpc.
func (goZeroFormat) Prefix() string { return "" }

func (goZeroFormat) Encode(in *registry.Instance) ([]byte, error) {
	if in.Status != registry.Passing {
		return nil, statusUnsupported(GoZero, in)
	}
	return []byte(in.Address), nil
}

func (goZeroFormat) Decode(service, id string, value []byte) (*registry.Instance, error) {
	in := &registry.Instance{ID: id, Service: service, Address: string(value), Weight: 1}
	if !isAddress(in.Address) {
		return nil, errNoAddress // a key of the root may belong to any program, and its value may be a secret
	}
	return in, checkForeign(in)
}

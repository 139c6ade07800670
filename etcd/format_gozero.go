package etcd

import (
	"github.com/rollcall-go/rollcall/registry"
)

// goZeroFormat is that of github.com/zeromicro/go-zero/core/discov, whose key is the prefix and the service: the bare address.
// Its own publishers put a number where the ID is, and its subscribers do not look at it.
type goZeroFormat struct{}

// prefix is empty: the keys that go-zero is configured with are whole ones, such as user.rpc.
func (goZeroFormat) prefix() string { return "" }

func (goZeroFormat) encode(in *registry.Instance) ([]byte, error) {
	if in.Status != registry.Passing {
		return nil, statusUnsupported(FormatGoZero, in)
	}
	return []byte(in.Address), nil
}

func (goZeroFormat) decode(service, id string, value []byte) (*registry.Instance, error) {
	in := &registry.Instance{ID: id, Service: service, Address: string(value), Weight: 1}
	if !isAddress(in.Address) {
		return nil, errNoAddress // a key of the root may be anybody's, and its value a secret
	}
	return in, checkForeign(in)
}

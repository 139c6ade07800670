package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// goMicroFormat is the format of go-micro's etcd registry: the JSON of its registry.Service with one node. A slash in the name of a service
// or node is a dash in the key.
type goMicroFormat struct{}

func (goMicroFormat) Prefix() string { return "/micro/registry/" }

// Encode always fails: a go-micro service also registers the requests and answers of each of its methods, and clients of go-micro use a
// protocol of their own.
func (goMicroFormat) Encode(*registry.Instance) ([]byte, error) {
	return nil, fmt.Errorf("%w: etcd: Format %s is read only", registry.ErrUnsupported, GoMicro)
}

type goMicroValue struct {
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"`
	Nodes    []goMicroNode     `json:"nodes"`
}

type goMicroNode struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Port     int               `json:"port"` // of go-micro 1; later versions have it in the address
	Metadata map[string]string `json:"metadata"`
}

func (goMicroFormat) Decode(service, id string, value []byte) (*registry.Instance, error) {
	var v goMicroValue
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	inKey := func(s string) string { return strings.ReplaceAll(s, "/", "-") }
	if inKey(v.Name) != service {
		return nil, fmt.Errorf("its service is %q, which differs from its key", v.Name)
	}
	i := slices.IndexFunc(v.Nodes, func(n goMicroNode) bool { return inKey(n.ID) == id })
	if i < 0 {
		return nil, errors.New("it has no node with the ID of its key")
	}
	node := v.Nodes[i]
	in := &registry.Instance{ID: id, Service: service, Address: node.Address, Version: v.Version, Weight: 1}
	if node.Port > 0 && !isAddress(in.Address) {
		in.Address = net.JoinHostPort(strings.Trim(node.Address, "[]"), strconv.Itoa(node.Port))
	}
	meta := maps.Clone(v.Metadata)
	if meta == nil {
		meta = map[string]string{}
	}
	maps.Copy(meta, node.Metadata)
	in.Metadata = withoutEmptyKeys(meta)
	in.Zone = in.Metadata[zoneKey]
	return in, checkForeign(in)
}

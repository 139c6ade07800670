package etcd

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

// goMicroFormat is that of go-micro's etcd registry: the JSON of its registry.Service with one node. A slash in the name of a
// service or node is a dash in the key.
type goMicroFormat struct{}

func (goMicroFormat) prefix() string { return "/micro/registry/" }

// encode refuses: a go-micro service announces the requests and answers of each of its methods too, and clients of go-micro
// speak a protocol of their own to what they find.
func (goMicroFormat) encode(*registry.Instance) ([]byte, error) {
	return nil, fmt.Errorf("%w: etcd: Format %s can be read, not announced in", registry.ErrUnsupported, FormatGoMicro)
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
	Port     int               `json:"port"` // of go-micro 1; later ones have it in the address
	Metadata map[string]string `json:"metadata"`
}

func (goMicroFormat) decode(service, id string, value []byte) (*registry.Instance, error) {
	var v goMicroValue
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	inKey := func(s string) string { return strings.ReplaceAll(s, "/", "-") }
	if inKey(v.Name) != service {
		return nil, fmt.Errorf("it is of service %q, not that of its key", v.Name)
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

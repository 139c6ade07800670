package etcd

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/rollcall-go/rollcall/registry"
)

// namingFormat is that of go.etcd.io/etcd/client/v3/naming/endpoints, whose target is the prefix and the service. Its value is
// a grpc naming.Update of old as JSON; readers do not look at Op, and gRPC's resolver at nothing but Addr.
type namingFormat struct{}

type namingValue struct {
	Op       int // 0, add, in every entry
	Addr     string
	Metadata any
}

// prefix is empty: a target is a whole key of its own, such as my-service.
func (namingFormat) prefix() string { return "" }

func (f namingFormat) encode(in *registry.Instance) ([]byte, error) {
	if in.Status != registry.Passing {
		return nil, statusUnsupported(FormatNaming, in)
	}
	v := namingValue{Addr: in.Address}
	meta := map[string]any{}
	if in.Version != "" {
		meta[versionKey] = in.Version
	}
	if in.Zone != "" {
		meta[zoneKey] = in.Zone
	}
	for k, text := range in.Metadata {
		meta[k] = text
	}
	if len(meta) > 0 {
		v.Metadata = meta
	}
	value, err := marshal(in, v)
	if err != nil {
		return nil, err
	}
	if plain, err := f.decode(in.Service, in.ID, value); needsOwn(plain, in, err) {
		meta[ownMember] = in
		v.Metadata = meta
		return marshal(in, v)
	}
	return value, nil
}

// Metadata of these names are taken for fields.
const (
	versionKey = "version"
	zoneKey    = "zone"
	weightKey  = "weight"
)

func (namingFormat) decode(service, id string, value []byte) (*registry.Instance, error) {
	var v struct {
		Addr     string
		Metadata json.RawMessage
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	var meta map[string]json.RawMessage
	if json.Unmarshal(v.Metadata, &meta) != nil && len(v.Metadata) > 0 {
		meta = map[string]json.RawMessage{"metadata": v.Metadata} // any JSON, and no object
	}
	// What somebody has given another address since is theirs.
	if own, err := (ownFormat{}).decode(service, id, meta[ownMember]); err == nil && own.Address == v.Addr {
		return own, nil
	}
	in := &registry.Instance{ID: id, Service: service, Address: v.Addr, Weight: 1, Metadata: texts(meta)}
	in.Version, in.Zone = in.Metadata[versionKey], in.Metadata[zoneKey]
	return in, checkForeign(in)
}

// texts has each member as the text that it is, or as its JSON.
func texts(members map[string]json.RawMessage) map[string]string {
	all := map[string]string{}
	for k, raw := range members {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			var compact bytes.Buffer
			_ = json.Compact(&compact, raw) // it is part of what was decoded
			text = compact.String()
		}
		all[k] = text
	}
	maps.DeleteFunc(all, func(k, _ string) bool { return k == "" })
	if len(all) == 0 {
		return nil
	}
	return all
}

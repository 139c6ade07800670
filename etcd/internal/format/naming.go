package format

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/rollcall-go/rollcall/registry"
)

// namingFormat is the format of go.etcd.io/etcd/client/v3/naming/endpoints, whose target is prefix + service. The value is the JSON of the
// former naming.Update of gRPC. Readers ignore Op, and gRPC's resolver uses Addr only.
type namingFormat struct{}

type namingValue struct {
	Op       int // always 0 (add)
	Addr     string
	Metadata any
}

// Prefix is empty: a target is a whole key, such as my-service.
func (namingFormat) Prefix() string { return "" }

func (f namingFormat) Encode(in *registry.Instance) ([]byte, error) {
	if in.Status != registry.Passing {
		return nil, statusUnsupported(Naming, in)
	}
	return f.EncodeLeaving(in)
}

// EncodeLeaving implements [leaver]: Rollcall's own format in the metadata has the status, which other readers ignore.
func (f namingFormat) EncodeLeaving(in *registry.Instance) ([]byte, error) {
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
	if plain, err := f.Decode(in.Service, in.ID, value); needsOwn(plain, in, err) {
		meta[ownKey] = in
		v.Metadata = meta
		return marshal(in, v)
	}
	return value, nil
}

// Metadata with these keys are fields of an instance.
const (
	versionKey = "version"
	zoneKey    = "zone"
	weightKey  = "weight"
)

func (namingFormat) Decode(service, id string, value []byte) (*registry.Instance, error) {
	var v struct {
		Addr     string
		Metadata json.RawMessage
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	var meta map[string]json.RawMessage
	if json.Unmarshal(v.Metadata, &meta) != nil && len(v.Metadata) > 0 {
		meta = map[string]json.RawMessage{"metadata": v.Metadata} // not an object
	}
	// If another program has changed the address since, its content counts.
	if own, err := (ownFormat{}).Decode(service, id, meta[ownKey]); err == nil && own.Address == v.Addr {
		return own, nil
	}
	in := &registry.Instance{ID: id, Service: service, Address: v.Addr, Weight: 1, Metadata: texts(meta)}
	in.Version, in.Zone = in.Metadata[versionKey], in.Metadata[zoneKey]
	return in, checkForeign(in)
}

// texts returns each member as text: a string as it is, any other value as its JSON.
func texts(members map[string]json.RawMessage) map[string]string {
	all := map[string]string{}
	for k, raw := range members {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			var compact bytes.Buffer
			_ = json.Compact(&compact, raw) // raw was decoded, so it is valid
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

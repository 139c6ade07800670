package codec

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// Entry has the parts of an entry of Consul's answer that are needed. They are few, which makes a first answer cheap: encoding/json only
// checks the rest.
type Entry struct {
	Node struct {
		Address  string
		Locality *locality
	}
	Service service
	Checks  []check
}

type service struct {
	ID              string
	Service         string
	Tags            []string
	Address         string
	Port            int
	Meta            map[string]string
	TaggedAddresses map[string]taggedAddress
	Weights         *struct{ Passing, Warning int }
	Locality        *locality
}

type locality struct{ Zone string }

type taggedAddress struct {
	Address string
	Port    int
}

type check struct {
	CheckID string
	Status  string
}

// Decode decodes an entry, whether this package wrote it or not. [Usable] says whether the instance can be used.
func Decode(raw []byte) (*registry.Instance, error) {
	if raw[0] != '{' {
		return nil, errNoObject
	}
	var e Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, undecodable(err)
	}
	return e.Instance(), nil
}

// undecodable returns err, which says why an entry cannot be decoded, in the words of Consul's documentation.
func undecodable(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s has the wrong type: JSON %s", wrong.Field, wrong.Value)
	}
	return err
}

func (e *Entry) Instance() *registry.Instance {
	s := &e.Service
	in := &registry.Instance{
		ID:      s.ID,
		Service: s.Service,
		Address: joinAddress(unbracketed(cmp.Or(s.Address, e.Node.Address)), s.Port),
		Status:  status(e.Checks),
	}
	in.Weight = e.weight(in.Status)
	if len(s.Tags) > 0 {
		in.Tags = s.Tags
	}
	for name, a := range s.TaggedAddresses {
		if reservedAddress(name) || a.Address == "" || a.Port == 0 {
			continue // Consul's own, or no host:port
		}
		if in.Endpoints == nil {
			in.Endpoints = map[string]string{}
		}
		in.Endpoints[name] = joinAddress(unbracketed(a.Address), a.Port)
	}
	// Also for an entry of another writer: if it has replaced an entry of this package, it has the same ID.
	if id, ok := strings.CutPrefix(s.ID, s.Service+":"); ok && id != "" {
		in.ID = id
	}
	in.Version, in.Zone = s.Meta[metaVersion], cmp.Or(s.Meta[metaZone], e.zone())
	if s.Meta[MetaOwner] == "" {
		if len(s.Meta) > 0 {
			in.Metadata = s.Meta
		}
		readForeign(in, s)
		return in
	}

	in.ID, _, _ = strings.Cut(in.ID, "~")
	for k, v := range s.Meta {
		if k == metaVersion || k == metaZone || strings.HasPrefix(k, OwnPrefix) {
			continue
		}
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		in.Metadata[k] = v
	}
	restore(in, s.Meta)
	fromKratos(in, s)
	return in
}

// MaxWeight is the largest weight that Consul takes. Something between it and its clients may send more.
const MaxWeight = 65535

// weight returns the weight that Consul's DNS uses for that status. An entry without weights has the weight 1, as there.
func (e *Entry) weight(status registry.Status) int {
	w := e.Service.Weights
	if e.Service.Meta[metaWeight] == drainedWeight {
		return registry.Drained
	}
	if w == nil {
		return 1
	}
	weight := w.Passing
	if status == registry.Warning {
		weight = w.Warning
	}
	if weight <= 0 {
		return registry.Drained
	}
	return min(weight, MaxWeight)
}

// zone returns the zone that operators have set for the service or its node.
func (e *Entry) zone() string {
	for _, l := range []*locality{e.Service.Locality, e.Node.Locality} {
		if l != nil && l.Zone != "" {
			return l.Zone
		}
	}
	return ""
}

// unbracketed returns host without the brackets around an IPv6 address, which Consul accepts as a part of an address.
func unbracketed(host string) string {
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		if ip, err := netip.ParseAddr(host[1 : n-1]); err == nil && ip.Is6() {
			return host[1 : n-1]
		}
	}
	return host
}

// restore puts the overflow back. It ignores parts that someone has changed: one bad entry is no reason to lose all others, or its own
// address.
func restore(in *registry.Instance, meta map[string]string) {
	var text strings.Builder
	for i := 0; ; i++ {
		part, ok := meta[metaMore+strconv.Itoa(i)]
		if !ok {
			break
		}
		text.WriteString(part)
	}
	var more overflow
	if text.Len() == 0 || json.Unmarshal([]byte(text.String()), &more) != nil {
		return
	}
	in.Address = cmp.Or(more.Address, in.Address)
	in.Version = cmp.Or(more.Version, in.Version)
	in.Zone = cmp.Or(more.Zone, in.Zone)
	in.Endpoints = join(in.Endpoints, more.Endpoints)
	in.Metadata = join(in.Metadata, more.Metadata)
}

func join(to, from map[string]string) map[string]string {
	if to == nil {
		return from
	}
	maps.Copy(to, from)
	return to
}

package consul

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// entry is what is needed of an entry of Consul's answer. That it is little is what makes a first answer cheap: encoding/json
// checks the rest of an entry, and builds nothing of it.
type entry struct {
	Node struct {
		Address string
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
	Weights         struct{ Passing, Warning int }
}

type taggedAddress struct {
	Address string
	Port    int
}

type check struct {
	CheckID string
	Status  string
}

// decodeEntry decodes an entry as this package or somebody else wrote it.
func decodeEntry(raw []byte) (*registry.Instance, error) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	return e.instance()
}

func (e *entry) instance() (*registry.Instance, error) {
	s := &e.Service
	if s.Service == "" {
		return nil, errors.New("it has no service")
	}
	in := &registry.Instance{
		ID:      s.ID,
		Service: s.Service,
		Address: joinAddress(cmp.Or(s.Address, e.Node.Address), s.Port),
		Weight:  s.Weights.Passing,
		Status:  status(e.Checks),
	}
	if in.Status == registry.Warning && s.Weights.Warning > 0 {
		in.Weight = s.Weights.Warning
	}
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
		in.Endpoints[name] = joinAddress(a.Address, a.Port)
	}
	// Whoever wrote it: an entry in the place of one of ours has its ID, so that ours knows that the place is taken.
	if id, ok := strings.CutPrefix(s.ID, s.Service+":"); ok && id != "" {
		in.ID = id
	}
	in.Version, in.Zone = s.Meta[metaVersion], s.Meta[metaZone]
	if s.Meta[metaOwner] == "" {
		if len(s.Meta) > 0 {
			in.Metadata = s.Meta
		}
		readForeign(in, s)
		return in, nil
	}

	in.ID, _, _ = strings.Cut(in.ID, "~")
	for k, v := range s.Meta {
		if k == metaVersion || k == metaZone || strings.HasPrefix(k, ownPrefix) {
			continue
		}
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		in.Metadata[k] = v
	}
	restore(in, s.Meta)
	fromKratos(in, s)
	return in, nil
}

// restore puts back what did not fit. Parts that were tampered with are passed over: one bad entry is no reason to lose
// sight of all others, nor of its own address.
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

// status is that of all checks of the service and its node together.
func status(checks []check) registry.Status {
	worst := registry.Passing
	for _, c := range checks {
		switch {
		case c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix):
			return registry.Maintenance
		case c.Status == api.HealthPassing:
		case c.Status == api.HealthWarning:
			worst = max(worst, registry.Warning)
		default:
			worst = registry.Critical
		}
	}
	return worst
}

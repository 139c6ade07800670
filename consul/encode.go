package consul

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// What Consul takes as the meta of a service.
const (
	maxPairs = 64
	maxKey   = 128 // bytes
	maxValue = 512 // bytes
)

// Keys of the meta that are not the application's.
const (
	metaOwner   = "rollcall-owner" // the announcement that wrote the entry; also says that it is in the form of this package
	metaMore    = "rollcall-more-" // and a number: the parts of an overflow
	metaVersion = "version"
	metaZone    = "zone"

	ownPrefix    = "rollcall-"
	consulPrefix = "consul-" // Consul refuses it
)

// overflow is what does not fit into Consul's own fields. Its JSON is cut into values of the meta.
type overflow struct {
	Address   string            `json:"address,omitempty"`
	Endpoints map[string]string `json:"endpoints,omitempty"`
	Version   string            `json:"version,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

func (o *overflow) put(field *map[string]string, key, value string) {
	if *field == nil {
		*field = map[string]string{}
	}
	(*field)[key] = value
}

// serviceID is the ID of the entry in Consul. No two instances share one: a service name cannot hold ':', and the catalog,
// which tells entries of a node apart without regard to case, is given a mark of the case where there is an upper one. Nor is it that
// of the sidecar of another instance, which ends as Consul has it.
func serviceID(service, id string) string {
	s := service + ":" + id
	if s == strings.ToLower(s) && !strings.HasSuffix(s, sidecarSuffix) {
		return s
	}
	mark := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%s~%x", s, mark[:6])
}

// registration is in as Consul takes it.
func (d *driver) registration(in *registry.Instance, serviceID, owner string) (*api.AgentServiceRegistration, error) {
	var more overflow
	host, port, exact := splitAddress(in.Address)
	if !exact {
		more.Address = in.Address
	}
	addresses := map[string]api.ServiceAddress{}
	for name, a := range in.Endpoints {
		h, p, exact := splitAddress(a)
		if !exact || reservedAddress(name) || d.settings.format() == FormatKratos && !isScheme(name) {
			more.put(&more.Endpoints, name, a)
			continue
		}
		addresses[name] = api.ServiceAddress{Address: h, Port: p}
	}
	meta, err := encodeMeta(d.settings.withMeta(in), map[string]string{metaOwner: owner, metaForm: d.settings.form(in)}, more)
	if err != nil {
		return nil, err
	}
	checks, err := d.settings.agentChecks(in, serviceID)
	if err != nil {
		return nil, err
	}
	s := &api.AgentServiceRegistration{
		ID: serviceID, Name: in.Service, Tags: in.Tags, Address: host, Port: port,
		TaggedAddresses: addresses, Meta: meta,
		Weights: d.settings.weights(in.Weight), EnableTagOverride: d.settings.EnableTagOverride,
		Check: d.settings.statusCheck(in, serviceID), Checks: checks,
		Connect: d.settings.connect(),
	}
	if d.settings.format() == FormatKratos {
		toKratos(in, s)
	}
	return s, nil
}

// weights are those of Consul for the weight of an instance. One that warns keeps some of it.
func (s *settings) weights(weight int) *api.AgentWeights {
	w := &api.AgentWeights{Passing: weight, Warning: weight}
	if s.WarningWeight > 0 && weight > 0 {
		w.Warning = max(1, weight*s.WarningWeight/100)
	}
	return w
}

// reapCritical is the least DeregisterAfter for an instance that says of itself that it is critical: Consul cannot tell that from one
// whose heartbeats have ceased, and would remove it, and find it announced again, once a minute.
const reapCritical = time.Hour

func firstStatus(s registry.Status) string {
	if s == registry.Maintenance {
		return api.HealthCritical
	}
	return checkStatus(s)
}

// encodeMeta puts into the meta of a service what has no field there. Whatever Consul would refuse goes into more.
// own are the keys of this package; an empty one is left out.
func encodeMeta(in *registry.Instance, own map[string]string, more overflow) (map[string]string, error) {
	meta := map[string]string{}
	for k, v := range own {
		if v != "" {
			meta[k] = v
		}
	}
	plain := func(key, value string, over *string) {
		switch {
		case value == "":
		case len(value) > maxValue:
			*over = value
		default:
			meta[key] = value
		}
	}
	plain(metaVersion, in.Version, &more.Version)
	plain(metaZone, in.Zone, &more.Zone)
	fixed := len(meta)

	var keys []string // those that fit
	for _, k := range slices.Sorted(maps.Keys(in.Metadata)) {
		if plainPair(k, in.Metadata[k]) {
			keys = append(keys, k)
		} else {
			more.put(&more.Metadata, k, in.Metadata[k])
		}
	}
	// What is in the overflow costs fewer pairs, but operators and Consul's filters see it badly, so only as much goes
	// there as must.
	for {
		for len(keys) > maxPairs-fixed {
			keys = spill(keys, in, &more)
		}
		parts, err := more.parts()
		if err != nil {
			return nil, err
		}
		if n := fixed + len(keys) + len(parts); n > maxPairs {
			if len(keys) == 0 {
				return nil, fmt.Errorf("%w: Metadata: with it the instance needs %d pairs of meta of %d bytes, more than the %d that Consul takes",
					registry.ErrInvalid, n, maxValue, maxPairs)
			}
			keys = spill(keys, in, &more)
			continue
		}
		for _, k := range keys {
			meta[k] = in.Metadata[k]
		}
		for i, part := range parts {
			meta[metaMore+strconv.Itoa(i)] = part
		}
		return meta, nil
	}
}

// spill moves the last of keys to the overflow.
func spill(keys []string, in *registry.Instance, more *overflow) []string {
	last := keys[len(keys)-1]
	more.put(&more.Metadata, last, in.Metadata[last])
	return keys[:len(keys)-1]
}

// plainPair reports whether Consul takes a pair of the application's as it is, and nobody would take it for another's.
func plainPair(key, value string) bool {
	if len(key) > maxKey || len(value) > maxValue || key == metaVersion || key == metaZone ||
		strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, consulPrefix) {
		return false
	}
	return !strings.ContainsFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

// parts returns the JSON of o in parts that are valid UTF-8 each and fit a value of the meta; none where o is empty.
func (o *overflow) parts() ([]string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	rest := strings.TrimSuffix(b.String(), "\n")
	if rest == "{}" {
		return nil, nil
	}
	var parts []string
	for len(rest) > maxValue {
		n := maxValue
		for !utf8.RuneStart(rest[n]) {
			n--
		}
		parts = append(parts, rest[:n])
		rest = rest[n:]
	}
	return append(parts, rest), nil
}

// splitAddress returns the parts of a host:port, and whether joining them gives exactly that again.
func splitAddress(address string) (host string, port int, exact bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false
	}
	port, err = strconv.Atoi(text)
	// Consul refuses an unspecified address.
	ip, _ := netip.ParseAddr(host)
	return host, port, err == nil && !ip.IsUnspecified() && host != "" && joinAddress(host, port) == address
}

func joinAddress(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// reservedAddress reports whether Consul gives a tagged address of that name a meaning of its own.
func reservedAddress(name string) bool {
	switch name {
	case "lan", "wan", "lan_ipv4", "wan_ipv4", "lan_ipv6", "wan_ipv6", "virtual", "consul-virtual":
		return true
	}
	return strings.HasPrefix(name, "consul-virtual:")
}

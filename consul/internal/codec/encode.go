package codec

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
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// Limits of Consul for the meta of a service.
const (
	MaxPairs = 64
	MaxKey   = 128 // bytes
	MaxValue = 512 // bytes
)

// Keys of the meta that this package uses itself.
const (
	MetaOwner   = "rollcall-owner"  // the owner tag; also says that the entry is in the form of this package
	metaMore    = "rollcall-more-"  // and a number: the parts of an overflow
	metaWeight  = "rollcall-weight" // of an instance whose weight Consul does not take
	metaVersion = "version"
	metaZone    = "zone"

	OwnPrefix    = "rollcall-"
	ConsulPrefix = "consul-" // Consul refuses it
)

// overflow has what does not fit into Consul's own fields. Its JSON is cut into values of the meta.
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

// SidecarSuffix is what Consul appends to the ID of a service to make the ID of its sidecar.
const SidecarSuffix = "-sidecar-proxy"

// ServiceID returns the ID of the entry in Consul. No two instances have the same one:
//
//   - The name of a service has no colon.
//   - The catalog compares the IDs of a node without regard to case. So an ID with an upper-case letter gets a hash.
//   - So does an ID that ends like the ID of a sidecar.
func ServiceID(service, id string) string {
	s := service + ":" + id
	if s == strings.ToLower(s) && !strings.HasSuffix(s, SidecarSuffix) {
		return s
	}
	hash := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%s~%x", s, hash[:6])
}

// Form says how an instance is written.
type Form struct {
	ServiceID, Owner string
	Kratos           bool
	// WarningWeight is the weight of an instance that warns, in percent of its weight; 0 is 100.
	WarningWeight     int
	EnableTagOverride bool
}

// Encode returns the registration of in, without checks and without its part in the service mesh. The error wraps registry.ErrInvalid: the
// metadata is more than Consul takes.
func Encode(in *registry.Instance, f Form) (*api.AgentServiceRegistration, error) {
	var more overflow
	host, port, exact := splitAddress(in.Address)
	if !exact {
		more.Address = in.Address
	}
	addresses := map[string]api.ServiceAddress{}
	for name, a := range in.Endpoints {
		h, p, exact := splitAddress(a)
		if exact && isWAN(name) {
			addresses[name] = api.ServiceAddress{Address: h, Port: p} // and in the overflow, as Consul adds some of that name itself
		}
		if !exact || reservedAddress(name) || f.Kratos && !isScheme(name) {
			more.put(&more.Endpoints, name, a)
			continue
		}
		addresses[name] = api.ServiceAddress{Address: h, Port: p}
	}
	completeWAN(addresses)
	own := map[string]string{MetaOwner: f.Owner, metaWeight: weightValue(in.Weight)}
	if f.Kratos {
		own[metaForm] = kratosForm(in)
	}
	meta, err := encodeMeta(in, own, more)
	if err != nil {
		return nil, err
	}
	s := &api.AgentServiceRegistration{
		ID: f.ServiceID, Name: in.Service, Tags: in.Tags, Address: host, Port: port,
		TaggedAddresses: addresses, Meta: meta,
		Weights: f.weights(in.Weight), EnableTagOverride: f.EnableTagOverride,
	}
	if f.Kratos {
		toKratos(in, s)
	}
	return s, nil
}

// drainedWeight is the value of metaWeight for a drained instance.
const drainedWeight = "-1"

// weightValue returns the value of metaWeight: none for a weight that Consul takes.
func weightValue(weight int) string {
	if weight > 0 {
		return ""
	}
	return drainedWeight
}

// weights returns Consul's weights for the weight of an instance. An instance that warns keeps some of its weight. A drained instance has the
// least that Consul takes, so that DNS gives it the fewest calls, and none while it warns.
func (f Form) weights(weight int) *api.AgentWeights {
	if weight <= 0 {
		return &api.AgentWeights{Passing: 1, Warning: 0}
	}
	w := &api.AgentWeights{Passing: weight, Warning: weight}
	if f.WarningWeight > 0 && weight > 0 {
		w.Warning = max(1, weight*f.WarningWeight/100)
	}
	return w
}

// encodeMeta puts into the meta of a service what has no field of its own. What Consul would refuse goes into more. own are the keys of this
// package; empty ones are left out.
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
		case len(value) > MaxValue:
			*over = value
		default:
			meta[key] = value
		}
	}
	plain(metaVersion, in.Version, &more.Version)
	plain(metaZone, in.Zone, &more.Zone)
	fixed := len(meta)

	var keys []string // the keys that fit
	for _, k := range slices.Sorted(maps.Keys(in.Metadata)) {
		if IsPlainPair(k, in.Metadata[k]) {
			keys = append(keys, k)
		} else {
			more.put(&more.Metadata, k, in.Metadata[k])
		}
	}
	// The overflow costs fewer pairs, but operators and Consul's filters cannot read it easily. So only as much goes there as must.
	for {
		for len(keys) > MaxPairs-fixed {
			keys = spill(keys, in, &more)
		}
		parts, err := more.parts()
		if err != nil {
			return nil, err
		}
		if n := fixed + len(keys) + len(parts); n > MaxPairs {
			if len(keys) == 0 {
				return nil, fmt.Errorf("%w: Metadata: with it the instance needs %d pairs of meta of %d bytes, more than the %d that Consul takes",
					registry.ErrInvalid, n, MaxValue, MaxPairs)
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

// IsPlainPair reports whether Consul takes a pair of metadata as it is, and the key has no other meaning in the meta.
func IsPlainPair(key, value string) bool {
	if len(key) > MaxKey || len(value) > MaxValue || key == metaVersion || key == metaZone ||
		strings.HasPrefix(key, OwnPrefix) || strings.HasPrefix(key, ConsulPrefix) {
		return false
	}
	return !strings.ContainsFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

// parts returns the JSON of o in parts, each of which is valid UTF-8 and fits a value of the meta. There are none if o is empty.
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
	for len(rest) > MaxValue {
		n := MaxValue
		for !utf8.RuneStart(rest[n]) {
			n--
		}
		parts = append(parts, rest[:n])
		rest = rest[n:]
	}
	return append(parts, rest), nil
}

// splitAddress returns the parts of a host:port. exact reports whether they can be joined to the same text again.
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

// isWAN reports whether Consul gives callers of other datacenters the tagged address of that name, if it translates addresses.
func isWAN(name string) bool { return name == "wan" || name == "wan_ipv4" || name == "wan_ipv6" }

// completeWAN adds the other form of a WAN address. Consul takes the port from wan, and the host from wan_ipv4 or wan_ipv6. If these are
// missing, it fills them with the address of the service.
func completeWAN(addresses map[string]api.ServiceAddress) {
	wan, ok := addresses["wan"]
	for _, form := range []string{"wan_ipv6", "wan_ipv4"} {
		a, has := addresses[form]
		ip, _ := netip.ParseAddr(wan.Address)
		switch {
		case ok && !has && (form == "wan_ipv4" && ip.Is4() || form == "wan_ipv6" && ip.Is6()):
			addresses[form] = wan
		case !ok && has:
			addresses["wan"] = a
		}
	}
}

// reservedAddress reports whether Consul gives a tagged address of that name a meaning of its own.
func reservedAddress(name string) bool {
	switch name {
	case "lan", "wan", "lan_ipv4", "wan_ipv4", "lan_ipv6", "wan_ipv6", "virtual", "consul-virtual":
		return true
	}
	return strings.HasPrefix(name, "consul-virtual:")
}

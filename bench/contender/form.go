package contender

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strconv"

	"github.com/rollcall-go/rollcall/registry"
)

// Form is the format of an instance in etcd: every framework has its own, and each contender reads its own. In Consul all of them
// read the same entries.
type Form string

const (
	Agent    Form = "agent"    // a service of the Consul agent
	Rollcall Form = "rollcall" // the JSON of an instance
	Naming   Form = "naming"   // the format of etcd's own naming, which the bare watch reads too
	GoKit    Form = "gokit"    // the bare address, under any key
	GoZero   Form = "gozero"   // the bare address, under a number
	GoMicro  Form = "gomicro"  // the JSON of a service with one node
)

// Prefix begins the keys of a service in etcd.
func (f Form) Prefix(service string) string {
	switch f {
	case Rollcall:
		return "/rollcall/" + service + "/"
	case GoMicro:
		return "/micro/registry/" + service + "/"
	}
	return "bench-" + string(f) + "/" + service + "/"
}

// Instance is what is written. In every form with fields for them, all instances have the same version, zone and metadata.
type Instance struct {
	Number  int
	Service string
	Address string
}

// ID returns the ID of the instance, which is unique in its service.
func (in Instance) ID() string { return fmt.Sprintf("i-%06d", in.Number) }

// HostPort returns the two parts of the address.
func (in Instance) HostPort() (string, int) {
	host, port, _ := net.SplitHostPort(in.Address)
	n, _ := strconv.Atoi(port)
	return host, n
}

// Version, Zone and Metadata are the same for every instance.
const (
	Version = "1.4.2"
	Zone    = "eu-1a"
)

var Metadata = map[string]string{"commit": "9fceb02d0ae598e95dc970b74767f19372d61af8", "team": "payments"}

// KeyValue returns the key and the value of the instance in etcd.
func (in Instance) KeyValue(f Form) (key, value string) {
	var v any
	key = f.Prefix(in.Service) + in.ID()
	switch f {
	case GoKit:
		return key, in.Address
	case GoZero:
		return f.Prefix(in.Service) + strconv.Itoa(7587862094230000000+in.Number), in.Address
	case GoMicro:
		data := maps.Clone(Metadata)
		data["zone"] = Zone
		node := map[string]any{"id": in.ID(), "address": in.Address, "metadata": data}
		v = map[string]any{"name": in.Service, "version": Version, "metadata": nil, "endpoints": nil, "nodes": []any{node}}
	case Naming:
		data := map[string]string{"version": Version, "zone": Zone}
		for k, m := range Metadata {
			data[k] = m
		}
		v = map[string]any{"Op": 0, "Addr": in.Address, "Metadata": data}
	case Rollcall:
		v = registry.Instance{ID: in.ID(), Service: in.Service, Address: in.Address, Version: Version, Zone: Zone, Metadata: Metadata, Weight: 1}
	default:
		panic("no form of etcd: " + f)
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return key, string(text)
}

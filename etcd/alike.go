package etcd

import (
	"bytes"
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// alike reads the values of one service. Its instances mostly differ in nothing but ID and address, which is made use of twice:
// such a value of our own form is not decoded, and what instances have in common is held once. The zero alike has read none.
type alike struct {
	in     *registry.Instance // the one that was decoded last; nil before
	rest   string             // what its value ends with, after the address; "" where it is not of our own form
	proven bool               // rest changes neither ID nor address: an instance with others was decoded with the same
}

// read is f.decode.
func (a *alike) read(f format, service, id string, value []byte) (*registry.Instance, error) {
	address, rest, ok := split(f, service, id, value)
	same := ok && a.rest != "" && string(rest) == a.rest
	if same && a.proven {
		own := registry.Instance{Service: service, ID: id, Address: string(address)}
		if own.Validate() == nil { // JSON might mean another text, but not of these characters
			in := *a.in
			in.ID, in.Address = own.ID, own.Address
			return &in, nil
		}
	}
	in, err := f.decode(service, id, value)
	if err != nil {
		return nil, err
	}
	if a.in != nil {
		share(in, a.in)
	}
	a.proven = same && in.Address == string(address) && (a.proven || in.Address != a.in.Address && in.ID != a.in.ID)
	if a.in = in; !same {
		a.rest = string(rest)
	}
	return in, nil
}

// split parts a value of our own form, as it is written, into the address and what comes after it. It reports false for any other.
func split(f format, service, id string, value []byte) (address, rest []byte, ok bool) {
	if f != (ownFormat{}) || id == "" {
		return nil, nil, false
	}
	for _, part := range [...]string{`{"id":"`, id, `","service":"`, service, `","address":"`} {
		if len(value) < len(part) || string(value[:len(part)]) != part {
			return nil, nil, false
		}
		value = value[len(part):]
	}
	end := bytes.IndexByte(value, '"')
	if end < 0 {
		return nil, nil, false
	}
	return value[:end], value[end:], true
}

// share gives in what it has in common with another instance in the memory of that one. Those of a service mostly have one
// version and one set of metadata, and each would hold its own copy: with two pairs of metadata 0.4 of its 0.6 kB.
func share(in, other *registry.Instance) {
	in.Service = same(in.Service, other.Service)
	in.Version = same(in.Version, other.Version)
	in.Zone = same(in.Zone, other.Zone)
	if slices.Equal(in.Tags, other.Tags) {
		in.Tags = other.Tags
	}
	if maps.Equal(in.Metadata, other.Metadata) {
		in.Metadata = other.Metadata
	}
}

func same(s, other string) string {
	if s == other {
		return other
	}
	return s
}

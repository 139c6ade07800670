// Package format encodes and decodes instances in the formats in which frameworks store them in etcd.
package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// The names of the formats.
const (
	Rollcall = "rollcall" // our own
	Naming   = "naming"   // etcd's own client: go.etcd.io/etcd/client/v3/naming
	Kratos   = "kratos"
	GoZero   = "gozero"
	GoMicro  = "gomicro" // read only
)

// Format is how a framework stores instances in etcd. In all formats, the key of an instance is prefix + service + "/" + ID.
type Format interface {
	// Prefix is the default for the prefix of all keys. It ends in a slash or is empty.
	Prefix() string
	// Encode returns the value of an instance. Equal instances have equal values. The error wraps [registry.ErrInvalid] or
	// [registry.ErrUnsupported].
	Encode(in *registry.Instance) ([]byte, error)
	// Decode returns the instance with this service and ID that has the value. The error says what is wrong with the value, and does not quote
	// it, since it may be private.
	Decode(service, id string, value []byte) (*registry.Instance, error)
}

// leaver is implemented by a format that can express that an instance leaves, although it has no other status than passing.
type leaver interface {
	// EncodeLeaving is Encode for an instance with the status Maintenance that is about to be removed.
	EncodeLeaving(in *registry.Instance) ([]byte, error)
}

// EncodeLeaving returns the value of an instance with the status Maintenance that is about to be removed.
func EncodeLeaving(f Format, in *registry.Instance) ([]byte, error) {
	if f, ok := f.(leaver); ok {
		return f.EncodeLeaving(in)
	}
	return f.Encode(in)
}

// ByName has all formats.
var ByName = map[string]Format{
	Rollcall: ownFormat{},
	Naming:   namingFormat{},
	Kratos:   kratosFormat{},
	GoZero:   goZeroFormat{},
	GoMicro:  goMicroFormat{},
}

// Names returns the names of all formats, for errors.
func Names() string { return strings.Join(slices.Sorted(maps.Keys(ByName)), ", ") }

// marshal returns the JSON of v, which is the value of in.
func marshal(in *registry.Instance, v any) ([]byte, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd: instance %s/%s: %v", registry.ErrInvalid, in.Service, in.ID, err)
	}
	return value, nil
}

// ownKey is the key of metadata under which an entry in another format has the instance in Rollcall's own format, if the other format cannot
// express everything. Readers of that format see metadata that they do not know.
const ownKey = "rollcall"

// needsOwn reports whether plain, as which readers of another format see an entry, lacks something of in.
func needsOwn(plain, in *registry.Instance, err error) bool { return err != nil || !plain.Equal(in) }

// statusUnsupported is the error for an instance that is not passing, in a format that has no status.
func statusUnsupported(name string, in *registry.Instance) error {
	return fmt.Errorf("%w: etcd: Format %s has no Status: %v cannot be registered, since clients would go on using the instance; "+
		"Deregister it instead", registry.ErrUnsupported, name, in.Status)
}

var (
	errNoID      = errors.New("the key has no ID after the service, or the ID is not valid UTF-8")
	errNoAddress = errors.New("it has no address of the form host:port")
)

// checkForeign returns an error if an instance that another program wrote cannot be used. The ID may be any text: it comes from the key, and
// other frameworks have other rules.
func checkForeign(in *registry.Instance) error {
	if in.ID == "" || !utf8.ValidString(in.ID) {
		return errNoID
	}
	if in.Address == "" {
		return errNoAddress
	}
	other := *in
	other.ID, other.Weight = "", max(0, in.Weight)
	return other.Validate()
}

// isAddress reports whether s has the form host:port.
func isAddress(s string) bool {
	return (&registry.Instance{Service: "s", Address: s}).Validate() == nil
}

// weightOf parses a weight. It reports false if s is not a weight.
func weightOf(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return readWeight(int(n)), err == nil && n <= math.MaxUint16
}

// readWeight returns the weight of an instance for a weight in the store.
func readWeight(n int) int {
	if n <= 0 {
		return registry.Drained
	}
	return n
}

// withoutEmptyKeys returns m without the empty key, which no instance can have. It returns nil if nothing is left.
func withoutEmptyKeys(m map[string]string) map[string]string {
	if _, ok := m[""]; ok {
		m = maps.Clone(m)
		delete(m, "")
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

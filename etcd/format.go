package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// The values of [Config].Format.
const (
	FormatRollcall = "rollcall" // our own
	FormatNaming   = "naming"   // etcd's own client: go.etcd.io/etcd/client/v3/naming
	FormatKratos   = "kratos"
	FormatGoZero   = "gozero"
	FormatGoMicro  = "gomicro" // to be read alone
)

// format is the form in which a framework keeps instances in etcd. What all of them have in common is the key of an
// instance: prefix + service + "/" + ID.
type format interface {
	// prefix begins the keys of all services where nobody says otherwise. It ends in a slash or is empty.
	prefix() string
	// encode is the value of an instance, and the same one whenever the instance is the same. The error wraps
	// [registry.ErrInvalid] or [registry.ErrUnsupported].
	encode(in *registry.Instance) ([]byte, error)
	// decode reads the value under the key that service and id make, and returns an instance that has both. The error says
	// what is wrong with the value, without quoting it, since it may be private.
	decode(service, id string, value []byte) (*registry.Instance, error)
}

var formats = map[string]format{
	FormatRollcall: ownFormat{},
	FormatNaming:   namingFormat{},
	FormatKratos:   kratosFormat{},
	FormatGoZero:   goZeroFormat{},
	FormatGoMicro:  goMicroFormat{},
}

// formatNames are for an error.
func formatNames() string { return strings.Join(slices.Sorted(maps.Keys(formats)), ", ") }

// marshal is the JSON of a value that holds in.
func marshal(in *registry.Instance, v any) ([]byte, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd: instance %s/%s: %v", registry.ErrInvalid, in.Service, in.ID, err)
	}
	return value, nil
}

// ownMember is where the metadata of another format holds our own form of the instance, in an entry of ours whose format
// does not say everything. Readers of that format see metadata that they do not know.
const ownMember = "rollcall"

// needsOwn reports whether plain, which is what the readers of another format make of an entry, lacks something of in.
func needsOwn(plain, in *registry.Instance, err error) bool { return err != nil || !plain.Equal(in) }

// statusUnsupported is the refusal to announce an instance as anything but passing where no reader can be told.
func statusUnsupported(name string, in *registry.Instance) error {
	return fmt.Errorf("%w: etcd: Format %s has no Status: %v cannot be announced, since clients would go on using the instance; "+
		"Deregister it instead", registry.ErrUnsupported, name, in.Status)
}

var (
	errNoID      = errors.New("the key has no ID after the service, or one that is no text")
	errNoAddress = errors.New("it has no address that is host:port")
)

// checkForeign holds an instance that others wrote to what is needed to use it. The ID may be any text: it comes from the key,
// and other frameworks know other rules.
func checkForeign(in *registry.Instance) error {
	if in.ID == "" || !utf8.ValidString(in.ID) {
		return errNoID
	}
	if in.Address == "" {
		return errNoAddress
	}
	other := *in
	other.ID = ""
	return other.Validate()
}

// isAddress reports whether s is host:port.
func isAddress(s string) bool {
	return (&registry.Instance{Service: "s", Address: s}).Validate() == nil
}

// weightOf reads a weight as text. It reports false where that is none.
func weightOf(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}

// withoutEmptyKeys returns m, nil where nothing is in it, without the key that no instance can have.
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

package etcd

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// prefixOf begins the keys of a service, and of no other: it ends in a slash.
func (d *driver) prefixOf(service string) string { return d.settings.Prefix + service + "/" }

// keyOf is the key of an instance.
func (d *driver) keyOf(service, id string) string { return d.prefixOf(service) + id }

// parseKey takes a key apart. It reports false for one that no instance can have.
func (d *driver) parseKey(key string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, d.settings.Prefix)
	if !ok {
		return "", "", false
	}
	service, id, ok = strings.Cut(rest, "/")
	return service, id, ok && service != "" && id != "" && !strings.Contains(id, "/")
}

// prefixEnd is the first key after all that begin with prefix, which ends in a slash.
func prefixEnd(prefix string) string { return prefix[:len(prefix)-1] + string('/'+1) }

// encode is the value of an instance: its documented JSON form.
func encode(in *registry.Instance) ([]byte, error) {
	value, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd: instance %s/%s: %v", registry.ErrInvalid, in.Service, in.ID, err)
	}
	return value, nil
}

// decode reads the value of a key of the service. It reports false where that is no instance, or another than the key
// says: the key decides which entry a later change or deletion means.
func decode(service, id string, value []byte) (*registry.Instance, bool) {
	in := new(registry.Instance)
	if id == "" || json.Unmarshal(value, in) != nil {
		return nil, false
	}
	if in.ID == "" {
		in.ID = id
	}
	if in.Service == "" {
		in.Service = service
	}
	if in.ID != id || in.Service != service || in.Validate() != nil {
		return nil, false
	}
	return in, true
}

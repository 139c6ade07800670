// Package settings reads the config of a balancing policy from a service config.
package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/registry"
)

// Object is the config of one policy. It ignores members that no method reads, as gRPC requires: a later version may know them.
type Object struct {
	policy  string
	members map[string]json.RawMessage
	errs    []error
}

// Parse parses js as the config of policy. Err returns the errors.
func Parse(policy string, js json.RawMessage) *Object {
	o := &Object{policy: policy}
	if json.Unmarshal(js, &o.members) != nil {
		o.invalid("config", js, "a JSON object")
	}
	return o
}

// String reads a string. If there is no such member, *into does not change; the other methods do the same.
func (o *Object) String(name string, into *string) {
	if v, ok := o.members[name]; ok && json.Unmarshal(v, into) != nil {
		o.invalid(name, v, "a string")
	}
}

// Share reads a number above 0 and at most 1.
func (o *Object) Share(name string, into *float64) {
	v, ok := o.members[name]
	if !ok {
		return
	}
	var x *float64 // a pointer, since null would not change a float64
	if err := json.Unmarshal(v, &x); err != nil || x == nil || *x <= 0 || *x > 1 {
		o.invalid(name, v, "a number above 0 and at most 1")
		return
	}
	*into = *x
}

// Duration reads a string such as "10s", which must be more than 0.
func (o *Object) Duration(name string, into *time.Duration) {
	v, ok := o.members[name]
	if !ok {
		return
	}
	var s string
	err := json.Unmarshal(v, &s)
	d, bad := time.ParseDuration(s)
	if err != nil || bad != nil || d <= 0 {
		o.invalid(name, v, `a duration above 0, such as "10s"`)
		return
	}
	*into = d
}

func (o *Object) invalid(name string, v json.RawMessage, want string) {
	o.errs = append(o.errs, fmt.Errorf("%w: %s: %s is not %s", registry.ErrInvalid, name, v, want))
}

// Err returns a *[registry.Error] that wraps [registry.ErrInvalid] and names each member that cannot be used, or nil.
func (o *Object) Err() error {
	if len(o.errs) == 0 {
		return nil
	}
	return failure.New("parse "+o.policy, "", errors.Join(o.errs...))
}

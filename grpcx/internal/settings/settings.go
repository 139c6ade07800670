// Package settings reads the config of a balancing policy from a service config.
package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Object is the config of one policy. Members that are not asked for are ignored, as gRPC wants it: a later version may
// know them.
type Object struct {
	policy  string
	members map[string]json.RawMessage
	errs    []error
}

// Parse returns the object that js holds. What is wrong with it, Err says.
func Parse(policy string, js json.RawMessage) *Object {
	o := &Object{policy: policy}
	if json.Unmarshal(js, &o.members) != nil {
		o.invalid("config", js, "a JSON object")
	}
	return o
}

// String reads a member that is a string. Where there is none, into stays as it is, as with all of these.
func (o *Object) String(name string, into *string) {
	if v, ok := o.members[name]; ok && json.Unmarshal(v, into) != nil {
		o.invalid(name, v, "a string")
	}
}

// Share reads a member that is a number above 0 and at most 1.
func (o *Object) Share(name string, into *float64) {
	v, ok := o.members[name]
	if !ok {
		return
	}
	var x *float64 // null would leave a plain number as it is
	if err := json.Unmarshal(v, &x); err != nil || x == nil || *x <= 0 || *x > 1 {
		o.invalid(name, v, "a number above 0 and at most 1")
		return
	}
	*into = *x
}

// Duration reads a member that is a string such as "10s", and more than 0.
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
	o.errs = append(o.errs, fmt.Errorf("%s: %w: %s: %s is not %s", o.policy, registry.ErrInvalid, name, v, want))
}

// Err returns what is wrong, or nil. It wraps [registry.ErrInvalid].
func (o *Object) Err() error { return errors.Join(o.errs...) }

package consul

import (
	"encoding/json"
	"errors"
)

var errNotObject = errors.New("it holds something that is not a JSON object")

// object walks through the members of a JSON object.
type object struct {
	array
	name, value []byte // of the present member; the name is quoted, and is JSON
	checked     bool   // all of it is known to be JSON
}

// first goes to the first member, and reports false where there is none.
func (o *object) first() (bool, error) {
	if o.i == len(o.b) || o.b[o.i] != '{' {
		return false, errNotObject
	}
	o.i++
	o.space()
	if o.i < len(o.b) && o.b[o.i] == '}' {
		o.i++
		return false, o.last()
	}
	return true, o.member()
}

// following goes to the member after the present one, and reports false where there is none.
func (o *object) following() (bool, error) {
	o.space()
	if o.i == len(o.b) {
		return false, errNotObject
	}
	c := o.b[o.i]
	o.i++
	switch c {
	case ',':
		o.space()
		return true, o.member()
	case '}':
		return false, o.last()
	}
	return false, errNotObject
}

// member takes a name, the colon and a value, of which the end alone is known: the caller has to see that it is JSON.
func (o *object) member() (err error) {
	if o.i == len(o.b) || o.b[o.i] != '"' {
		return errNotObject
	}
	if o.name, err = o.take(); err != nil || !o.checked && !json.Valid(o.name) {
		return errNotObject
	}
	o.space()
	if o.i == len(o.b) || o.b[o.i] != ':' {
		return errNotObject
	}
	o.i++
	o.space()
	if o.value, err = o.take(); err != nil {
		return errNotObject
	}
	return nil
}

// last is end with the error for an object.
func (o *object) last() error {
	if o.end() != nil {
		return errNotObject
	}
	return nil
}

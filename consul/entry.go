package consul

import (
	"bytes"
	"encoding/json"
)

// entryDecoder decodes the entries of one answer. encoding/json spends most of its time on what is in an entry and not in the
// struct entry, so entries and checks are split into members first, and of those that are of no use no more is seen than that
// they are JSON: an entry that is damaged anywhere is refused. What stands in many entries to the letter, the node and the
// check of its agent, is looked at once.
type entryDecoder struct {
	node    []byte // of the entry before
	address string // of that node
	known   bool   // address is, which nobody asks for where each service has one
	check   []byte // the first one of the entry before, which gave first
	first   check
}

// decode decodes raw into e, the node only where the service has no address.
func (d *entryDecoder) decode(raw []byte, e *entry) error {
	if bytes.Equal(raw, null) {
		return nil
	}
	hasNode := false
	o := object{array: array{b: raw}}
	more, err := o.first()
	for more && err == nil {
		switch {
		case bytes.Equal(o.name, nameService):
			err = json.Unmarshal(o.value, &e.Service)
		case bytes.Equal(o.name, nameChecks):
			e.Checks, err = d.checks(o.value)
		case bytes.Equal(o.name, nameNode):
			if !bytes.Equal(o.value, d.node) {
				err = checkJSON(o.value)
				d.node, d.known = o.value, false
			}
			hasNode = true
		default:
			err = checkJSON(o.value)
		}
		if err == nil {
			more, err = o.following()
		}
	}
	if err != nil || !hasNode || e.Service.Address != "" {
		return err
	}
	if !d.known {
		err = json.Unmarshal(d.node, &e.Node)
		d.address, d.known = e.Node.Address, err == nil
	}
	e.Node.Address = d.address
	return err
}

// What Consul writes, as it stands in its answers.
var (
	null        = []byte(`null`)
	nameNode    = []byte(`"Node"`)
	nameService = []byte(`"Service"`)
	nameChecks  = []byte(`"Checks"`)
	nameCheckID = []byte(`"CheckID"`)
	nameStatus  = []byte(`"Status"`)
)

// checks decodes the checks of an entry.
func (d *entryDecoder) checks(raw []byte) ([]check, error) {
	if bytes.Equal(raw, null) {
		return nil, nil
	}
	out := make([]check, 0, 2) // the agent's and the service's
	walk := array{b: raw}
	more, err := walk.open()
	for more && err == nil {
		var one []byte
		if one, err = walk.take(); err != nil {
			break
		}
		c := d.first
		if !bytes.Equal(one, d.check) {
			if c, err = decodeCheck(one); err != nil {
				break
			}
			if len(out) == 0 {
				d.check, d.first = one, c
			}
		}
		out = append(out, c)
		more, err = walk.next()
	}
	return out, err
}

// decodeCheck decodes one check.
func decodeCheck(raw []byte) (c check, err error) {
	if err := checkJSON(raw); err != nil || bytes.Equal(raw, null) {
		return c, err
	}
	o := object{array: array{b: raw}, checked: true}
	more, err := o.first()
	for more && err == nil {
		switch {
		case bytes.Equal(o.name, nameCheckID):
			c.CheckID, err = decodeText(o.value)
		case bytes.Equal(o.name, nameStatus):
			c.Status, err = decodeText(o.value)
		}
		if err == nil {
			more, err = o.following()
		}
	}
	return c, err
}

// decodeText decodes a string that is known to be JSON.
func decodeText(value []byte) (string, error) {
	if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), nil
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}

func checkJSON(value []byte) error {
	if json.Valid(value) {
		return nil
	}
	var v any
	return json.Unmarshal(value, &v) // for its words
}

// taggedAddresses are those of a service that somebody gave it. Consul adds some of its own, which are passed over.
type taggedAddresses map[string]taggedAddress

type taggedAddress struct {
	Address string
	Port    int
}

// UnmarshalJSON implements [json.Unmarshaler]. raw is known to be JSON.
func (t *taggedAddresses) UnmarshalJSON(raw []byte) error {
	*t = nil
	if bytes.Equal(raw, null) {
		return nil
	}
	o := object{array: array{b: raw}, checked: true}
	more, err := o.first()
	for more && err == nil {
		var name string
		if name, err = decodeText(o.name); err != nil {
			break
		}
		if !reservedAddress(name) {
			var a taggedAddress
			if err = json.Unmarshal(o.value, &a); err != nil {
				break
			}
			if *t == nil {
				*t = taggedAddresses{}
			}
			(*t)[name] = a
		}
		more, err = o.following()
	}
	return err
}

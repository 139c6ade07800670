package consul

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// lastAnswer is what a source remembers of the last answer, so that the next one costs as much as differs in it: hashing or
// comparing a body is hundreds of times cheaper than decoding it.
type lastAnswer struct {
	body     []byte
	elements []element
	set      []*registry.Instance // of the elements
	spare    []byte               // for the body of the next one
	// decodeEntry decodes an element; nil is the function of that name.
	decodeEntry func([]byte) (*registry.Instance, error)
}

// element is a part of the body, and the instance that it was decoded to.
type element struct {
	raw []byte
	in  *registry.Instance
}

// small is the size below which a body is kept in no more memory than it needs, and none for the next one: of many watches
// of small services that is most of what they hold.
const small = 64 << 10

// trimmed is body in no more memory than it needs, where that is worth it.
func trimmed(body []byte) []byte {
	if len(body) >= small || cap(body) == len(body) {
		return body
	}
	return bytes.Clone(body)
}

// reusable is body as memory for another, or nil.
func reusable(body []byte) []byte {
	if cap(body) < small {
		return nil
	}
	return body
}

// window is how far ahead an element is looked for that is not where the last one was: so many may have been removed
// in one place at once before the rest is decoded anew.
const window = 64

// update decodes body, which it keeps. What it returns must not be changed. An element whose bytes did not change keeps
// its instance. After an error the last answer is still the one before.
func (a *lastAnswer) update(body []byte) ([]*registry.Instance, error) {
	if a.set != nil && bytes.Equal(body, a.body) {
		a.spare = reusable(body)
		return a.set, nil
	}
	body = trimmed(body)
	elements, err := a.decode(body)
	if err != nil {
		a.spare = reusable(body)
		return nil, err
	}
	set := make([]*registry.Instance, len(elements))
	for i, e := range elements {
		set[i] = e.in
	}
	a.spare, a.body, a.elements, a.set = reusable(a.body), body, elements, set
	return set, nil
}

func (a *lastAnswer) decode(body []byte) ([]element, error) {
	elements := make([]element, 0, len(a.elements)+1)
	one := a.decodeEntry
	if one == nil {
		one = decodeEntry
		if len(a.elements) == 0 {
			// One call for all costs a sixth less than one for each.
			var all []entry
			if err := json.Unmarshal(body, &all); err != nil {
				return nil, err
			}
			one = func([]byte) (*registry.Instance, error) {
				e := &all[0]
				all = all[1:]
				return e.instance()
			}
		}
	}
	walk := array{b: body}
	more, err := walk.open()
	at, changed := 0, 0 // where the next element was in the last answer, and how many there were in a row that were not there
	for more {
		if k := a.find(walk.b[walk.i:], at, changed); k >= 0 {
			elements = append(elements, element{walk.skip(len(a.elements[k].raw)), a.elements[k].in})
			at, changed = k+1, 0
		} else {
			raw, err := walk.take()
			if err != nil {
				return nil, err
			}
			in, err := one(raw)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", len(elements), err)
			}
			elements = append(elements, element{raw, in})
			changed++
		}
		more, err = walk.next()
		if err != nil {
			return nil, err
		}
	}
	return elements, err
}

// find returns the element of the last answer that text begins with, and -1 where none of those is it that it could be:
// the one in the same place, where elements have changed before it, or one of the next few, where some were removed. An
// element is an object, so nothing that begins with one is another.
func (a *lastAnswer) find(text []byte, at, changed int) int {
	if k := at + changed; k < len(a.elements) && bytes.HasPrefix(text, a.elements[k].raw) {
		return k
	}
	for k := at; k < min(at+window, len(a.elements)); k++ {
		if bytes.HasPrefix(text, a.elements[k].raw) {
			return k
		}
	}
	return -1
}

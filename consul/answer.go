package consul

import (
	"encoding/json"
	"fmt"
	"hash/maphash"

	"github.com/rollcall-go/rollcall/registry"
)

// lastAnswer is what a source remembers of the last answer, so that the next one costs as much as differs in it: hashing
// bytes is a hundred times cheaper than decoding them. The bytes themselves are not kept, which are most of what a watch would
// hold. That two texts have one 64-bit hash under a seed of the process' own is less likely than that memory fails.
type lastAnswer struct {
	whole   digest               // of the body
	digests []digest             // of the elements
	set     []*registry.Instance // what they were decoded to; nil where there was no answer
	spare   []byte               // memory for the body of the next one
	// decodeEntry decodes an element; nil is the function of that name.
	decodeEntry func([]byte) (*registry.Instance, error)
}

// digest stands for a text.
type digest struct {
	length int
	hash   uint64
}

var seed = maphash.MakeSeed()

func digestOf(text []byte) digest { return digest{len(text), maphash.Bytes(seed, text)} }

// small is the size below which no memory is kept for the next body: of many watches of small services that would be most of
// what they hold.
const small = 64 << 10

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

// update decodes body, which is its own from then on. What it returns must not be changed. An element whose bytes did not
// change keeps its instance. After an error the last answer is still the one before.
func (a *lastAnswer) update(body []byte) ([]*registry.Instance, error) {
	a.spare = reusable(body)
	whole := digestOf(body)
	if a.set != nil && whole == a.whole {
		return a.set, nil
	}
	set, digests, err := a.decode(body)
	if err != nil {
		return nil, err
	}
	a.whole, a.digests, a.set = whole, digests, set
	return set, nil
}

func (a *lastAnswer) decode(body []byte) ([]*registry.Instance, []digest, error) {
	set, digests := make([]*registry.Instance, 0, len(a.set)+1), make([]digest, 0, len(a.set)+1)
	one := a.decodeEntry
	if one == nil {
		one = decodeEntry
		if len(a.set) == 0 {
			// One call for all costs a sixth less than one for each.
			var all []entry
			if err := json.Unmarshal(body, &all); err != nil {
				return nil, nil, err
			}
			set, digests = make([]*registry.Instance, 0, len(all)), make([]digest, 0, len(all))
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
			walk.skip(a.digests[k].length)
			set, digests = append(set, a.set[k]), append(digests, a.digests[k])
			at, changed = k+1, 0
		} else {
			raw, err := walk.take()
			if err != nil {
				return nil, nil, err
			}
			in, err := one(raw)
			if err != nil {
				return nil, nil, fmt.Errorf("entry %d: %w", len(set), err)
			}
			set, digests = append(set, in), append(digests, digestOf(raw))
			changed++
		}
		more, err = walk.next()
		if err != nil {
			return nil, nil, err
		}
	}
	return set, digests, err
}

// find returns the element of the last answer that text begins with, and -1 where none of those is it that it could be:
// the one in the same place, where elements have changed before it, or one of the next few, where some were removed. An
// element is an object, so nothing that begins with one is another.
func (a *lastAnswer) find(text []byte, at, changed int) int {
	var tried digest // what text begins with
	begins := func(k int) bool {
		d := a.digests[k]
		// Of another length it would hardly end like an element there, and need not be hashed.
		if d.length > len(text) || text[d.length-1] != '}' {
			return false
		}
		if d.length != tried.length {
			tried = digestOf(text[:d.length])
		}
		return d == tried
	}
	if k := at + changed; k < len(a.digests) && begins(k) {
		return k
	}
	for k := at; k < min(at+window, len(a.digests)); k++ {
		if begins(k) {
			return k
		}
	}
	return -1
}

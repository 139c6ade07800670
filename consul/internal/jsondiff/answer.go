package jsondiff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/share"
	"github.com/rollcall-go/rollcall/registry"
)

// Answer is the last answer to a query, so that the next one costs as much as differs in it: hashing bytes is a hundred times cheaper than
// decoding them. It does not keep the bytes, which would be most of the memory of a watch. That two texts have the same 64-bit hash, with a
// seed of the process, is less likely than a failure of the memory.
type Answer struct {
	// Decode decodes an element. Nil is [codec.Decode].
	Decode func([]byte) (*registry.Instance, error)
	// LeftOut are the elements of the last answer that are no instances.
	LeftOut LeftOut

	digests []digest             // of the elements
	all     []*registry.Instance // what each element was decoded to; nil if it is left out
	set     []*registry.Instance // all but the nil ones; nil if there was no answer
	parts   int                  // an upper bound for the parts of all instances: see maxParts
	recent  share.Recent         // what new instances share memory with
}

// digest identifies a text.
type digest struct {
	length int
	hash   uint64
}

var seed = maphash.MakeSeed()

func digestOf(text []byte) digest { return digest{len(text), maphash.Bytes(seed, text)} }

// Error is a failure of the answer itself.
type Error string

// Error returns the text.
func (f Error) Error() string { return string(f) }

// lookAhead is how far ahead an element is searched for that has moved since the last answer. So many elements may have been removed in
// one place before the rest is decoded again.
const lookAhead = 64

// batchSize is how many elements are decoded in one call if there was no answer before. That costs a sixth less than a call for each.
const batchSize = 64

// Update reads and decodes an answer. ctx ends it between two entries.
//
//   - An element whose bytes did not change keeps its instance.
//   - An element that is no instance is left out.
//   - The caller must not change the set.
//   - After an error, the last answer is still the one before.
func (a *Answer) Update(ctx context.Context, body io.Reader) ([]*registry.Instance, error) {
	n := reading{last: a, walk: newArray(ctx, body)}
	defer n.walk.free()
	if err := n.elements(); err != nil {
		return nil, explain(err)
	}
	a.replaceBy(&n)
	return a.set, nil
}

// replaceBy makes n the last answer.
func (a *Answer) replaceBy(n *reading) {
	a.parts, a.LeftOut = n.parts, n.left
	switch {
	case n.differs:
		a.digests, a.all = n.digests, n.all
	case n.same == len(a.all) && a.set != nil:
		return
	default:
		a.digests, a.all = a.digests[:n.same:n.same], a.all[:n.same:n.same]
	}
	a.set = instancesOf(a.all)
}

// instancesOf returns all without the nil ones.
func instancesOf(all []*registry.Instance) []*registry.Instance {
	if all != nil && !slices.Contains(all, nil) {
		return all
	}
	set := make([]*registry.Instance, 0, len(all))
	for _, in := range all {
		if in != nil {
			set = append(set, in)
		}
	}
	return set
}

// reading is an answer while it is being read.
type reading struct {
	last *Answer
	walk *array

	count int // of the elements so far
	// While it does not differ from the last answer, that many elements are the same as there, and nothing is built.
	same    int
	differs bool
	digests []digest
	all     []*registry.Instance
	left    LeftOut
	parts   int
	objects bool          // one of the elements is an object
	name    string        // of a service
	memory  []codec.Entry // of the last batch
}

// explain returns err as the caller sees it.
func explain(err error) error {
	if errors.Is(err, errNotArray) || errors.Is(err, errNotJSON) {
		return Error("the answer cannot be read: " + err.Error())
	}
	return err
}

// elements reads all elements.
func (n *reading) elements() error {
	n.parts = n.last.parts
	inBatches := len(n.last.digests) == 0 && n.last.Decode == nil
	more, err := n.walk.open()
	at, changed := 0, 0 // the place of the next element in the last answer, and how many elements in a row were not there
	for more && err == nil {
		if k := n.find(at, changed); k >= 0 {
			n.walk.skip(n.last.digests[k].length)
			n.keep(k)
			at, changed = k+1, 0
			more, err = n.walk.next()
		} else if inBatches {
			more, err = n.batch()
		} else {
			if err = n.one(); err == nil {
				more, err = n.walk.next()
			}
			changed++
		}
		if n.count > maxEntries {
			return Error(fmt.Sprintf("the answer has more than %d entries, and is not read", maxEntries))
		}
		if n.parts > maxParts && n.countParts() > maxParts {
			return Error(fmt.Sprintf("the answer has more than %d tags, endpoints and pairs of metadata, and is not read", maxParts))
		}
	}
	if err == nil && n.count > 0 && !n.objects {
		return Error("the answer cannot be read: none of its elements is an entry")
	}
	return err
}

// countParts counts the parts of all instances so far: n.parts includes the parts of instances that only the last answer has.
func (n *reading) countParts() int {
	n.diverge()
	n.parts = 0
	for _, in := range n.all {
		n.parts += parts(in)
	}
	return n.parts
}

func parts(in *registry.Instance) int {
	if in == nil {
		return 0
	}
	return len(in.Tags) + len(in.Endpoints) + len(in.Metadata)
}

// keep adds an element of the last answer.
func (n *reading) keep(k int) {
	n.count++
	n.objects = true
	if n.last.all[k] == nil {
		n.left.add(n.last.LeftOut.find(n.last.digests[k]))
	}
	if !n.differs && k == n.same {
		n.same++
		return
	}
	n.diverge()
	n.digests, n.all = append(n.digests, n.last.digests[k]), append(n.all, n.last.all[k])
}

// diverge notes that the rest is not as in the last answer.
func (n *reading) diverge() {
	if n.differs {
		return
	}
	n.differs = true
	size := len(n.last.digests) + 1
	n.digests = append(make([]digest, 0, size), n.last.digests[:n.same]...)
	n.all = append(make([]*registry.Instance, 0, size), n.last.all[:n.same]...)
}

// add adds an element with what it was decoded to, or why it cannot be.
func (n *reading) add(in *registry.Instance, err error, text []byte) {
	if err == nil {
		err = codec.Usable(in, n.name)
	}
	n.objects = n.objects || text[0] == '{'
	if err != nil {
		n.leaveOut(newBadEntry(text, err))
		return
	}
	n.last.recent.Share(in)
	n.name = in.Service
	n.append(in, digestOf(text))
	n.parts += parts(in)
}

func (n *reading) append(in *registry.Instance, of digest) {
	n.count++
	n.diverge()
	n.digests, n.all = append(n.digests, of), append(n.all, in)
}

// leaveOut adds an element that is no instance. If it is remembered, it need not be decoded again.
func (n *reading) leaveOut(e BadEntry) {
	if len(n.left.Entries) == MaxLeftOut || e.of == (digest{}) {
		n.count++
		n.left.add(e)
		return
	}
	n.left.add(e)
	n.append(nil, e.of)
}

// one reads one element.
func (n *reading) one() error {
	e, err := n.walk.take()
	if err != nil {
		return err
	}
	return n.decode(n.walk.b, e)
}

// decode decodes an element. It fails if the element is not JSON, since its end is not known then.
func (n *reading) decode(memory []byte, e element) error {
	if e.tooLarge {
		n.objects = true
		n.leaveOut(BadEntry{Name: "a large entry", Why: errTooLargeEntry.Error()})
		return nil
	}
	f := n.last.Decode
	if f == nil {
		f = codec.Decode
	}
	text := memory[e.from:e.to]
	in, err := f(text)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || text[0] != '{' && !json.Valid(text) {
		return errNotJSON
	}
	n.add(in, err, text)
	return nil
}

// batch reads some elements that are in memory together, decodes them in one call, and goes to the element after them. It reports whether there
// is one.
func (n *reading) batch() (more bool, err error) {
	w := n.walk
	w.keep = w.i - 1
	defer func() { w.keep = -1 }()
	e, err := w.take()
	if err != nil {
		return false, err
	}
	if e.tooLarge {
		if err := n.decode(nil, e); err != nil {
			return false, err
		}
		return w.next()
	}
	var room [batchSize]element
	elements := append(room[:0], e)
	for {
		if more, err = w.next(); err != nil {
			return false, err
		}
		if !more || len(elements) == batchSize {
			break
		}
		e, ok := w.peek()
		if !ok {
			break
		}
		elements = append(elements, e)
	}
	return more, n.decodeBatch(w.b[w.keep:], elements)
}

// decodeBatch decodes elements of text, and overwrites the byte before the first and the one after the last.
func (n *reading) decodeBatch(text []byte, elements []element) error {
	end := elements[len(elements)-1].to
	text[0], text[end] = '[', ']'
	clear(n.memory[:cap(n.memory)])
	err := json.Unmarshal(text[:end+1], &n.memory)
	together := err == nil && len(n.memory) == len(elements)
	for i, e := range elements {
		if raw := text[e.from:e.to]; together && raw[0] == '{' {
			n.add(n.memory[i].Instance(), nil, raw)
		} else if err := n.decode(text, e); err != nil {
			return err
		}
	}
	return nil
}

// find returns the element of the last answer with which the rest begins, or -1. It tries the element in the same place, for elements that have
// changed before it, and the next few, for elements that were removed. An element is an object, so no other text begins with one.
func (n *reading) find(at, changed int) int {
	digests := n.last.digests
	var tried digest // what the rest begins with
	begins := func(k int) bool {
		d := digests[k]
		if !n.walk.has(d.length) {
			return false
		}
		text := n.walk.b[n.walk.i:]
		// An element of another length would hardly end like this one, and need not be hashed.
		if text[d.length-1] != '}' {
			return false
		}
		if d.length != tried.length {
			tried = digestOf(text[:d.length])
		}
		return d == tried
	}
	if k := at + changed; k < len(digests) && begins(k) {
		return k
	}
	for k := at; k < min(at+lookAhead, len(digests)); k++ {
		if begins(k) {
			return k
		}
	}
	return -1
}

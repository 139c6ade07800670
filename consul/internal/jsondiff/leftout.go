package jsondiff

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// MaxLeftOut is how many entries of an answer that are no instances are remembered. Any others are only counted.
const MaxLeftOut = 1000

// LeftOut are the entries of an answer that are no instances.
type LeftOut struct {
	Entries []BadEntry // at most MaxLeftOut
	More    int        // how many others there are
}

// BadEntry is an entry that is no instance. Its texts quote the entry: they may have secrets, several lines and any length.
type BadEntry struct {
	of   digest // of its text; the zero value if that is not known
	Name string // its ID, and its node if that is known
	Why  string // what is wrong with it
}

func (l *LeftOut) add(e BadEntry) {
	if len(l.Entries) == MaxLeftOut {
		l.More++
		return
	}
	l.Entries = append(l.Entries, e)
}

// find returns the entry with that text.
func (l *LeftOut) find(of digest) BadEntry {
	for _, e := range l.Entries {
		if e.of == of {
			return e
		}
	}
	return BadEntry{}
}

// newBadEntry describes an entry by its text. Its name has its ID, if that can be read.
func newBadEntry(text []byte, why error) BadEntry {
	// Each field by itself, since one of a wrong type must not hide the others.
	var e struct{ Node, Service json.RawMessage }
	var node struct{ Node json.RawMessage }
	var service struct{ ID json.RawMessage }
	var nodeName, id string
	_ = json.Unmarshal(text, &e)
	_ = json.Unmarshal(e.Node, &node)
	_ = json.Unmarshal(node.Node, &nodeName)
	_ = json.Unmarshal(e.Service, &service)
	_ = json.Unmarshal(service.ID, &id)
	b := BadEntry{of: digestOf(text), Name: id, Why: why.Error()}
	if id == "" {
		b.Name = fmt.Sprintf("an entry without an ID that can be read (%s)", strconv.FormatUint(b.of.hash, 36))
		return b
	}
	if nodeName != "" {
		b.Name += " on node " + nodeName
	}
	return b
}

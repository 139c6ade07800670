package jsondiff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// An array of JSON is split by hand here: encoding/json takes as long to find the elements of an answer as to decode a good part of them.
// encoding/json decodes and checks what is within an element.

// window is how much of an answer is in memory at once, if no element is larger.
const window = 64 << 10

var (
	errNotArray = errors.New("the answer is not a JSON array")
	errNotJSON  = errors.New("an element is not JSON")
)

// windows are reused, so that a watch needs no memory between two answers except for the set.
var windows = sync.Pool{New: func() any { return new([window]byte) }}

// array walks through the elements of a JSON array while it is being read.
type array struct {
	ctx context.Context // of the call: it ends the walk between two chunks
	r   io.Reader

	b    []byte // what was read, from keep or from i on
	i    int    // the place of the walk in b
	keep int    // what is before it in b may be overwritten; -1 for i
	size int    // how much was read in all
	eof  bool

	pooled *[window]byte
}

func newArray(ctx context.Context, r io.Reader) *array {
	p := windows.Get().(*[window]byte)
	return &array{ctx: ctx, r: r, b: p[:0], keep: -1, pooled: p}
}

// free returns the memory. The slices that take returned must not be used after it.
func (a *array) free() { windows.Put(a.pooled) }

// more reads a chunk. It returns io.EOF at the end.
func (a *array) more() error {
	if a.eof {
		return io.EOF
	}
	if len(a.b) == cap(a.b) {
		from := max(a.i-1, 0) // the byte before an element may be overwritten
		if a.keep >= 0 {
			from = a.keep
			a.keep = 0
		}
		if from == 0 {
			a.b = append(make([]byte, 0, 2*cap(a.b)), a.b...)
		} else {
			a.b = a.b[:copy(a.b, a.b[from:])]
		}
		a.i -= from
	}
	for range 100 {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		n, err := a.r.Read(a.b[len(a.b):cap(a.b)])
		a.b = a.b[:len(a.b)+n]
		if a.size += n; a.size > maxAnswer {
			return tooLarge("the answer", maxAnswer)
		}
		a.eof = err == io.EOF
		switch {
		case n > 0:
			return nil // an error comes again with the next read
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// broken returns the error for err, which more has returned before the end of the array.
func broken(err error) error {
	if err == io.EOF {
		return errNotArray
	}
	return err
}

// has reads until the next n bytes are in memory, and reports whether there are as many.
func (a *array) has(n int) bool {
	for len(a.b)-a.i < n {
		if a.more() != nil {
			return false
		}
	}
	return true
}

// open goes to the first element, and reports false if there is none.
func (a *array) open() (bool, error) {
	if c, err := a.visible(); err != nil || c != '[' {
		return false, cmpError(err, errNotArray)
	}
	a.i++
	c, err := a.visible()
	if err == nil && c == ']' {
		a.i++
		return false, a.end()
	}
	return err == nil, err
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// element is one of an array, in the memory of the walk: from and to are offsets in b.
type element struct {
	from, to int
	tooLarge bool // it was passed over
}

// take goes past the element. Only its end is known: the caller must check that it is JSON. If a.keep is set, from and to count from there.
func (a *array) take() (element, error) {
	if a.ctx.Err() != nil {
		return element{}, context.Cause(a.ctx)
	}
	var s scanner
	n := 0 // of the element's bytes, so many were scanned
	for {
		end, ok := s.end(a.b[a.i+n:])
		n += end
		if ok {
			break
		}
		if n > maxEntry {
			return element{tooLarge: true}, a.skipRest(&s)
		}
		if err := a.more(); err != nil {
			return element{}, broken(err)
		}
	}
	if n == 0 {
		return element{}, errNotArray
	}
	base := max(a.keep, 0)
	e := element{a.i - base, a.i - base + n, n > maxEntry}
	a.i += n
	return e, nil
}

// peek is take for an element that is in memory already. It reports whether there is one.
func (a *array) peek() (element, bool) {
	var s scanner
	n, ok := s.end(a.b[a.i:])
	if !ok || n == 0 || n > maxEntry || a.i+n == len(a.b) { // what follows a number may be another digit
		return element{}, false
	}
	base := max(a.keep, 0)
	e := element{from: a.i - base, to: a.i - base + n}
	a.i += n
	return e, true
}

// skipRest goes to the end of an element whose beginning s has scanned, and forgets it.
func (a *array) skipRest(s *scanner) error {
	for {
		a.b, a.i, a.keep = a.b[:0], 0, -1
		if err := a.more(); err != nil {
			return broken(err)
		}
		if end, ok := s.end(a.b); ok {
			a.i = end
			return nil
		}
	}
}

// skip is take for an element that is known to be the next n bytes.
func (a *array) skip(n int) { a.i += n }

// next goes to the next element, and reports false if there is none.
func (a *array) next() (bool, error) {
	c, err := a.visible()
	if err != nil {
		return false, err
	}
	a.i++
	switch c {
	case ',':
		_, err := a.visible()
		return err == nil, err
	case ']':
		return false, a.end()
	}
	return false, errNotArray
}

// end reads what follows the array, which must be space only, so that the connection can be used again.
func (a *array) end() error {
	from := a.i
	for {
		for ; a.i < len(a.b); a.i++ {
			if !isSpace(a.b[a.i]) {
				return errNotArray
			}
		}
		a.forget(from)
		if err := a.more(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		from = a.i
	}
}

// visible goes to the next byte that is no space, and returns it.
func (a *array) visible() (byte, error) {
	from := a.i
	for {
		for ; a.i < len(a.b); a.i++ {
			if c := a.b[a.i]; !isSpace(c) {
				return c, nil
			}
		}
		a.forget(from)
		if err := a.more(); err != nil {
			return 0, broken(err)
		}
		from = a.i
	}
}

// forget removes from memory the space between that place and the walk. An answer may have any amount of it.
func (a *array) forget(from int) { a.b, a.i = a.b[:from], from }

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// scanner finds the end of a value that comes in pieces. The zero value is before the first.
type scanner struct {
	depth  int
	quoted bool // in a string
	odd    bool // the last byte was a backslash in a string, and escapes the next
}

// end returns how many bytes of b belong to the value, and whether it ends there. A value that is not JSON ends somewhere.
func (s *scanner) end(b []byte) (n int, ok bool) {
	depth := s.depth
	for i := 0; ; {
		if s.quoted {
			if i = s.unquote(b, i); s.quoted {
				break
			}
			if depth == 0 {
				return i, true
			}
		}
		for ; i < len(b) && !s.quoted; i++ {
			switch b[i] {
			case '"':
				s.quoted = true
			case '{', '[':
				depth++
			case '}', ']':
				if depth == 0 {
					return i, true // of the array around a number or a literal
				}
				if depth--; depth == 0 {
					return i + 1, true
				}
			case ',', ' ', '\n', '\r', '\t':
				if depth == 0 {
					return i, true
				}
			}
		}
		if !s.quoted {
			break
		}
	}
	s.depth = depth
	return len(b), false
}

// unquote returns the end of the string in b that contains b[i].
func (s *scanner) unquote(b []byte, i int) int {
	for {
		n := bytes.IndexByte(b[i:], '"')
		q := i + n
		if n < 0 {
			q = len(b)
		}
		escapes := 0
		for q-escapes > i && b[q-escapes-1] == '\\' {
			escapes++
		}
		if s.odd && escapes == q-i {
			escapes++
		}
		s.odd = escapes%2 == 1
		if n < 0 {
			return q
		}
		i = q + 1
		if !s.odd {
			s.quoted = false
			return i
		}
		s.odd = false
	}
}

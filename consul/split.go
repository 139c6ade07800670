package consul

import (
	"bytes"
	"errors"
)

// Splitting an array of JSON is all that is done by hand here: encoding/json takes as long to find the elements of an
// answer as to decode a good part of them. What is within an element, encoding/json decodes and checks.

var errNotArray = errors.New("the answer is not a JSON array")

// array walks through the elements of a JSON array.
type array struct {
	b []byte
	i int
}

// open goes to the first element, and reports false where there is none.
func (a *array) open() (bool, error) {
	a.space()
	if a.i == len(a.b) || a.b[a.i] != '[' {
		return false, errNotArray
	}
	a.i++
	a.space()
	if a.i < len(a.b) && a.b[a.i] == ']' {
		a.i++
		return false, a.end()
	}
	return true, nil
}

// take returns the element, of which its end alone is known. The caller has to see that it is JSON.
func (a *array) take() ([]byte, error) {
	end, ok := valueEnd(a.b, a.i)
	if !ok || end == a.i {
		return nil, errNotArray
	}
	raw := a.b[a.i:end]
	a.i = end
	return raw, nil
}

// skip is take for an element that is known to be the n bytes from here on.
func (a *array) skip(n int) { a.i += n }

// next goes to the next element, and reports false where there is none.
func (a *array) next() (bool, error) {
	a.space()
	if a.i == len(a.b) {
		return false, errNotArray
	}
	c := a.b[a.i]
	a.i++
	switch c {
	case ',':
		a.space()
		return true, nil
	case ']':
		return false, a.end()
	}
	return false, errNotArray
}

func (a *array) end() error {
	if a.space(); a.i != len(a.b) {
		return errNotArray
	}
	return nil
}

func (a *array) space() {
	for a.i < len(a.b) && isSpace(a.b[a.i]) {
		a.i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// valueEnd returns where the value ends that begins at i. A value that is none of JSON ends somewhere.
func valueEnd(b []byte, i int) (end int, ok bool) {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i, ok = stringEnd(b, i); !ok {
				return i, false
			}
			if depth == 0 {
				return i + 1, true
			}
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
	return i, false
}

// stringEnd returns where the quote is that ends the string whose first quote is at i.
func stringEnd(b []byte, i int) (end int, ok bool) {
	for {
		n := bytes.IndexByte(b[i+1:], '"')
		if n < 0 {
			return len(b), false
		}
		i += 1 + n
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i, true
		}
	}
}

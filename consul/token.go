package consul

import (
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// tokenEvery is how often a token file is read again at the most.
const tokenEvery = time.Second

// token is the ACL token of every call: a text, or what a file holds at the time.
type token struct {
	path string // "" where there is no file

	mu    sync.Mutex
	value string
	read  time.Time // when the file was
	old   []string  // what it held before: still a secret
}

// keptTokens is how many tokens of a file that have been replaced are still kept out of texts.
const keptTokens = 4

// openToken returns the token of a file, which has to be readable at first.
func openToken(path string) (*token, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return &token{path: path, value: strings.TrimSpace(string(b)), read: time.Now()}, nil
}

// now returns the token to use. While its file cannot be read, is empty or holds what no header can, which may be for the
// moment in which it is replaced, that is the last one.
func (t *token) now() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == "" || time.Since(t.read) < tokenEvery {
		return t.value
	}
	t.read = time.Now()
	b, err := os.ReadFile(t.path)
	next := strings.TrimSpace(string(b))
	if err != nil || next == "" || next == t.value || !isToken(next) {
		return t.value
	}
	t.old = append(t.old, t.value)
	t.old = t.old[max(0, len(t.old)-keptTokens):]
	t.value = next
	return t.value
}

// secrets returns what no text must hold.
func (t *token) secrets() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(slices.Clone(t.old), t.value)
}

// isToken reports whether text can be sent in a header.
func isToken(text string) bool { return !strings.ContainsFunc(text, unicode.IsControl) }

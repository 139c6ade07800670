package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// TokenInterval is the least time between two reads of a token file.
const TokenInterval = time.Second

// keptTokens is how many replaced tokens of a file are still kept out of texts.
const keptTokens = 4

// Token is the ACL token of every call: a text, or the content of a file at the time. It is safe for concurrent use.
type Token struct {
	path string // "" if there is no file

	mu      sync.Mutex
	value   string
	readAt  time.Time     // when the file was read
	old     []string      // earlier tokens: still secrets
	changed chan struct{} // closed, and replaced, with each new value
	report  func(error)   // nil before Subscribe
	// failure is why the last read failed, and reported is the failure that was reported last.
	failure, reported string
}

// NewToken returns a token that does not change.
func NewToken(value string) *Token { return &Token{value: value, changed: make(chan struct{})} }

// OpenToken returns the token of a file, which must be readable now.
func OpenToken(path string) (*Token, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := NewToken(strings.TrimSpace(string(b)))
	t.path, t.readAt = path, time.Now()
	return t, nil
}

// Rotates reports whether the token comes from a file.
func (t *Token) Rotates() bool { return t.path != "" }

// Current returns the token to use. If its file cannot be read, as in the moment in which it is replaced, that is the last good one.
func (t *Token) Current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == "" || time.Since(t.readAt) < TokenInterval {
		return t.value
	}
	t.readAt = time.Now()
	next, err := readToken(t.path)
	t.note(err)
	if err != nil || next == t.value {
		return t.value
	}
	t.old = append(t.old, t.value)
	t.old = t.old[max(0, len(t.old)-keptTokens):]
	t.value = next
	close(t.changed)
	t.changed = make(chan struct{})
	return t.value
}

// Changed returns a channel that is closed when a read of the file finds another token.
func (t *Token) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// follow reads the file again and again until ctx ends.
func (t *Token) follow(ctx context.Context) {
	tick := time.NewTicker(TokenInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.Current()
		}
	}
}

// Subscribe makes t report why its file cannot be used: once for each reason, and not before a second read has found it. report must
// not block or use t.
func (t *Token) Subscribe(report func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report = report
}

// note notes the outcome of a read. t.mu is locked.
func (t *Token) note(err error) {
	if err == nil {
		t.failure, t.reported = "", ""
		return
	}
	again := t.failure == err.Error()
	t.failure = err.Error()
	if again && t.reported != t.failure && t.report != nil {
		t.reported = t.failure
		t.report(fmt.Errorf("token file unusable, keeping the last good token: %w", err))
	}
}

// readToken returns the token in the file. Its error shows nothing of the content.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	text := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "", err
	case text == "":
		return "", fmt.Errorf("%s is empty", path)
	case !IsToken(text):
		return "", fmt.Errorf("%s has a control character, which an HTTP header cannot have", path)
	}
	return text, nil
}

// Secrets returns the texts that no error or log line may contain.
func (t *Token) Secrets() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(slices.Clone(t.old), t.value)
}

// IsToken reports whether text can be sent in an HTTP header.
func IsToken(text string) bool { return !strings.ContainsFunc(text, unicode.IsControl) }

// Package oneline joins errors in one line, as the texts of this module's errors are.
package oneline

import (
	"errors"
	"strings"
)

// Join returns an error that wraps all errs that are not nil, or nil if there is none. Its text is theirs with "; " in between. What
// all of them begin with, such as "invalid: consul: ", is in it once.
func Join(errs ...error) error {
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return err
	}
	prefix := commonPrefix(lines)
	for i, line := range lines[1:] {
		lines[i+1] = line[len(prefix):]
	}
	return &joined{strings.Join(lines, "; "), err}
}

type joined struct {
	text string
	err  error
}

// Error returns the text in one line.
func (j *joined) Error() string { return j.text }

// Unwrap returns the errors together.
func (j *joined) Unwrap() error { return j.err }

// commonPrefix returns the longest text that ends in ": " and that all lines begin with.
func commonPrefix(lines []string) string {
	prefix := ""
	for {
		head, _, ok := strings.Cut(lines[0][len(prefix):], ": ")
		if !ok {
			return prefix
		}
		longer := prefix + head + ": "
		for _, line := range lines {
			if !strings.HasPrefix(line, longer) {
				return prefix
			}
		}
		prefix = longer
	}
}

//go:build !unix

package main

import "errors"

// openFileLimit fails: these systems have no such limit.
func openFileLimit() (uint64, error) {
	return 0, errors.New("this system has no limit that a program can read")
}

//go:build !unix

package serve_test

import (
	"errors"
	"syscall"
)

const userSignal = syscall.SIGINT

// raise fails, and with it the test: a process can send itself no signal here.
func raise(syscall.Signal) error { return errors.New("no signals on this platform") }

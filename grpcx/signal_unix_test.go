//go:build unix

package grpcx_test

import (
	"os"
	"syscall"
)

// userSignal is a signal that nothing else sends to a test.
const userSignal = syscall.SIGUSR1

// raise sends sig to this process.
func raise(sig syscall.Signal) error { return syscall.Kill(os.Getpid(), sig) }

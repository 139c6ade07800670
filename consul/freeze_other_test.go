//go:build !unix

package consul

import "syscall"

// A process cannot be frozen on this platform. The tests that would freeze one fail before, since they cannot start Consul.
const (
	sigStop     = syscall.SIGTERM
	sigContinue = syscall.SIGTERM
)

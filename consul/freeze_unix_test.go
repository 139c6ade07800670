//go:build unix

package consul

import "syscall"

// These functions freeze a process and let it go on.
const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)

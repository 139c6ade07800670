//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package testbed

import (
	"os"
	"syscall"
)

// errPlatform is why no server can be started on this platform.
var errPlatform error

const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)

// flock takes the exclusive lock of f. If another process has it, flock waits or returns EWOULDBLOCK.
func flock(f *os.File, wait bool) error {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}

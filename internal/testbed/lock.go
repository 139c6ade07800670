//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package testbed

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the exclusive lock of the file, which the kernel drops when its holder dies. It blocks while another
// process has it, and calls busy once before it does. The file stays behind: to remove a lock file is a race with whoever
// has just opened it.
func lockFile(path string, busy func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		busy()
		err = flock(f, syscall.LOCK_EX)
	}
	if err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return func() { _ = f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}

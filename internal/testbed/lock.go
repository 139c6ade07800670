package testbed

import (
	"errors"
	"os"
	"syscall"
)

// lockFile acquires the exclusive lock of the file. If another process has the lock, lockFile calls busy once and blocks. The kernel
// releases the lock when the process ends. The file is never removed, since another process may just have opened it to lock it.
func lockFile(path string, busy func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = flock(f, false)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		busy()
		err = flock(f, true)
	}
	if err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return func() { _ = f.Close() }, nil
}

//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package testbed

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// errPlatform is why no server can be started on this platform.
var errPlatform = errors.New("testbed needs flock and the signals SIGSTOP and SIGCONT, which " + runtime.GOOS + " does not have")

// These are never sent: no server starts.
const (
	sigStop     = syscall.SIGTERM
	sigContinue = syscall.SIGTERM
)

func flock(*os.File, bool) error { return errPlatform }

func dieWithParent(*syscall.SysProcAttr) {}

func isStopped(int) (bool, error) { return false, errPlatform }

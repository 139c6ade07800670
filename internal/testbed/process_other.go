//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package testbed

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has nothing to set here: only Linux tells the kernel to do that.
func dieWithParent(*syscall.SysProcAttr) {}

func isStopped(pid int) (bool, error) {
	out, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return strings.HasPrefix(strings.TrimSpace(string(out)), "T"), err
}

//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// reapedVariable is set for the process that reapAround starts.
const reapedVariable = "ROLLCALL_REAPED"

// mustReap reports whether this process is the first one of a container that runs a program: orphaned processes become its
// children, and stay as zombies unless it waits for them.
func mustReap() bool {
	return os.Getpid() == 1 && os.Getenv(reapedVariable) == "" && slices.Contains(os.Args[1:], "register")
}

// reapAround runs args in a second process, which does the work, passes signals on to it, and waits for every child that it has or
// inherits. It returns the exit code of the second process. The work is in a process of its own since package os/exec expects that
// nothing else waits for its children.
func reapAround(args []string) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, append(slices.Clone(passedOn), syscall.SIGTERM, syscall.SIGINT)...)
	executable, err := os.Executable()
	if err != nil {
		executable = args[0]
	}
	worker, err := os.StartProcess(executable, args, &os.ProcAttr{
		Env:   append(os.Environ(), reapedVariable+"=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "rollcall:", err)
		return exitHost
	}
	go func() {
		for s := range signals {
			_ = syscall.Kill(worker.Pid, s.(syscall.Signal))
		}
	}()
	return reapUntil(worker.Pid)
}

// reapUntil waits for children until the process worker has ended, and returns the exit code of that.
func reapUntil(worker int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // no child is left, so worker was reaped elsewhere
			return exitHost
		case pid == worker && status.Signaled():
			return 128 + int(status.Signal())
		case pid == worker && status.Exited():
			return status.ExitStatus()
		}
	}
}

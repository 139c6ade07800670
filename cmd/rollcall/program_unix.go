//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// passedOn are the signals that the program gets as they come. Many servers read their configuration again by one of them.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// ownGroup gives the program a process group of its own: Ctrl-C on a terminal reaches a whole group, and the program must not
// end before it is deregistered.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// signal sends s to the program and to what it has started in its group: a shell that runs the server passes no signal on. It does
// nothing if the program has ended.
func (p *program) signal(s os.Signal) {
	if !p.hasEnded() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s.(syscall.Signal))
	}
}

// terminate asks the program to end.
func (p *program) terminate() { p.signal(syscall.SIGTERM) }

// kill ends the program.
func (p *program) kill() { p.signal(syscall.SIGKILL) }

// codeOf returns the exit code as a shell has it: 128+n for signal n.
func codeOf(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

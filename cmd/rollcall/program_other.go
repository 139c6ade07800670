//go:build !unix

package main

import (
	"os"
	"os/exec"
)

// passedOn are the signals that the program gets as they come.
var passedOn []os.Signal

func ownGroup(*exec.Cmd) {}

// terminate ends the program at once: this system has no signal that asks for it.
func (p *program) terminate() { p.kill() }

func (p *program) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *program) kill() { _ = p.cmd.Process.Kill() }

func codeOf(s *os.ProcessState) int { return s.ExitCode() }

func mustReap() bool { return false }

func reapAround([]string) int { return exitHost }

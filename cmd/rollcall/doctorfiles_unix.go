//go:build unix

package main

import "syscall"

// openFileLimit returns how many files a process may open. Go raises the soft limit to the hard one when a program starts.
func openFileLimit() (uint64, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err
}

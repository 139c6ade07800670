package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"
)

// newTerminal returns a terminal without colour, and a function that returns what was written to it.
func newTerminal(t *testing.T) (terminal *os.File, text func() string) {
	t.Helper()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number, locked int32
	ioctl(t, control, syscall.TIOCSPTLCK, &locked)
	ioctl(t, control, syscall.TIOCGPTN, &number)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	screen := &buffer{}
	var reading sync.WaitGroup
	reading.Go(func() {
		chunk := make([]byte, 4096)
		for {
			n, err := control.Read(chunk)
			_, _ = screen.Write(chunk[:n])
			if err != nil { // every process has closed the terminal
				return
			}
		}
	})
	t.Cleanup(func() {
		terminal.Close()
		reading.Wait()
		control.Close()
	})
	return terminal, func() string { return strings.ReplaceAll(screen.String(), "\r\n", "\n") }
}

func ioctl(t *testing.T, f *os.File, request uintptr, value *int32) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
		t.Fatal(errno)
	}
}

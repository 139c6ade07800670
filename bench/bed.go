package main

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// bed is where the servers of internal/testbed stand: that package is made for tests, and this program is none.
type bed struct {
	testing.TB // nil: whatever is not below is not called
	cleanups   []func()
	failed     bool
}

func (b *bed) Helper()                        {}
func (b *bed) Cleanup(f func())               { b.cleanups = append(b.cleanups, f) }
func (b *bed) Failed() bool                   { return b.failed }
func (b *bed) Logf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (b *bed) Errorf(format string, a ...any) { b.failed = true; b.Logf(format, a...) }
func (b *bed) Fatal(a ...any)                 { b.Fatalf("%s", fmt.Sprint(a...)) }

// Fatalf ends the program's main goroutine, as it would that of a test; see run.
func (b *bed) Fatalf(format string, a ...any) {
	b.Errorf(format, a...)
	runtime.Goexit()
}

func (b *bed) TempDir() string {
	dir, err := os.MkdirTemp("", "rollcall-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// end removes what was put up, the last first.
func (b *bed) end() {
	for len(b.cleanups) > 0 {
		last := b.cleanups[len(b.cleanups)-1]
		b.cleanups = b.cleanups[:len(b.cleanups)-1]
		last()
	}
}

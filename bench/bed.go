package main

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// bed replaces the test that the servers of internal/testbed need: that package is made for tests, and this program is not a test.
type bed struct {
	testing.TB // nil: only the methods below are called
	cleanups   []func()
	failed     bool
}

func (b *bed) Helper()                        {}
func (b *bed) Cleanup(f func())               { b.cleanups = append(b.cleanups, f) }
func (b *bed) Failed() bool                   { return b.failed }
func (b *bed) Logf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (b *bed) Errorf(format string, a ...any) { b.failed = true; b.Logf(format, a...) }
func (b *bed) Fatal(a ...any)                 { b.Fatalf("%s", fmt.Sprint(a...)) }

// Fatalf ends the goroutine of run, as it would end the goroutine of a test; see main.
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

// end calls the cleanups, the last one first.
func (b *bed) end() {
	for len(b.cleanups) > 0 {
		last := b.cleanups[len(b.cleanups)-1]
		b.cleanups = b.cleanups[:len(b.cleanups)-1]
		last()
	}
}

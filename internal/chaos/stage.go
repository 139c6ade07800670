package main

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// stage replaces the test that the servers of internal/testbed need: that package is made for tests, and this program is not a test.
type stage struct {
	testing.TB // nil: only the methods below are called
	cleanups   []func()
	failed     bool
}

func (s *stage) Helper()                        {}
func (s *stage) Cleanup(f func())               { s.cleanups = append(s.cleanups, f) }
func (s *stage) Failed() bool                   { return s.failed }
func (s *stage) Logf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (s *stage) Errorf(format string, a ...any) { s.failed = true; s.Logf(format, a...) }
func (s *stage) Fatal(a ...any)                 { s.Fatalf("%s", fmt.Sprint(a...)) }

// Fatalf ends the goroutine of run, as it would end the goroutine of a test.
func (s *stage) Fatalf(format string, a ...any) {
	s.Errorf(format, a...)
	runtime.Goexit()
}

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "rollcall-chaos-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// end calls the cleanups, the last one first.
func (s *stage) end() {
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		last()
	}
}

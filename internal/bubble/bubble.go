// Package bubble runs a test in a bubble of testing/synctest on one processor.
//
// Go's race detector can end the whole test process when two goroutines of a bubble receive from expired timers at the same
// time: the runtime lets both write to one record of the detector (https://go.dev/issue/78156, open as of Go 1.26). With one
// processor no two goroutines run at the same time, so this cannot happen. When Go has mended it, this package can go.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var processors struct {
	sync.Mutex
	bubbles int // that run now; parallel tests can have several
	before  int // GOMAXPROCS before the first of them
}

// Test is [synctest.Test], but with GOMAXPROCS 1 while any bubble of the process runs.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	enter()
	defer leave() // also when f ends by t.FailNow
	synctest.Test(t, f)
}

func enter() {
	processors.Lock()
	defer processors.Unlock()
	if processors.bubbles == 0 {
		processors.before = runtime.GOMAXPROCS(1)
	}
	processors.bubbles++
}

func leave() {
	processors.Lock()
	defer processors.Unlock()
	processors.bubbles--
	if processors.bubbles == 0 {
		runtime.GOMAXPROCS(processors.before)
	}
}

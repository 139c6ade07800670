package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

// Without the package's measure, the race detector ends this test's process within a few thousand timers.
func TestTest_ExpiredTimersOfManyGoroutines(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	bubble.Test(t, func(*testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5_000 {
					<-time.NewTimer(0).C
				}
			})
		}
		wg.Wait()
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("GOMAXPROCS after the bubble = %d, want %d as before it", after, before)
	}
}

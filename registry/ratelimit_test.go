package registry

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

func TestRateLimit_SpacesCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newRateLimit(10)
		time.Sleep(time.Hour) // without a read, which earns no more than a second's worth
		began := time.Now()
		var readers sync.WaitGroup
		for range 35 {
			readers.Go(func() {
				if err := l.wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("35 reads at 10 a second took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader that gave up got %v", err)
		}
	})
}

// A reader that gave up has read nothing, so no other waits for it.
func TestRateLimit_ForgetsReadersThatGaveUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newRateLimit(10)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			var readers sync.WaitGroup
			for range 50 {
				readers.Go(func() { l.wait(ctx) })
			}
			readers.Wait()
			cancel()
		}
		began := time.Now()
		if err := l.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the next reader waited %v", took)
		}
	})
}

func TestRateLimit_Of0LimitsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		began := time.Now()
		l := newRateLimit(0)
		for range 1000 {
			if err := l.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("1,000 reads took %v", took)
		}
	})
}

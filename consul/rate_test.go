package consul

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRate(10)
		time.Sleep(time.Hour) // without a read, which earns no more than a second's worth
		began := time.Now()
		var work sync.WaitGroup
		for range 35 {
			work.Go(func() {
				if err := r.wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("35 reads at 10 a second took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader that gave up got %v", err)
		}
	})
}

func TestNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := newRate(0)
		for range 1000 {
			if err := r.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("without a bound it took %v", took)
		}
	})
}

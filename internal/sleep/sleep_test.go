package sleep

import (
	"context"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

func TestFor_BlocksForTheTimeOrUntilTheContextEnds(t *testing.T) {
	const end = time.Minute // when the context ends
	for _, c := range []struct {
		d, took time.Duration
		alive   bool
	}{
		{-time.Second, 0, true},
		{0, 0, true},
		{time.Second, time.Second, true},
		{end - 1, end - 1, true},
		{end + 1, end, false},
		{time.Hour, end, false},
	} {
		bubble.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), end)
			defer cancel()
			began := time.Now()
			alive := For(ctx, c.d)
			if took := time.Since(began); alive != c.alive || took != c.took {
				t.Errorf("For(%v) returns %v after %v, want %v after %v", c.d, alive, took, c.alive, c.took)
			}
		})
	}
}

func TestFor_ReportsAContextThatEndedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []time.Duration{-1, 0, time.Hour} {
		if For(ctx, d) {
			t.Errorf("For(%v) reports that the context is alive", d)
		}
	}
}

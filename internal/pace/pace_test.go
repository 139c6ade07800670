package pace

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

func TestPace_Waits(t *testing.T) {
	const spacing, perInstance = 50 * time.Millisecond, 100 * time.Microsecond
	for name, c := range map[string]struct {
		next func(*Pace) time.Duration
		want time.Duration // once the burst is over
	}{
		"of many":                   {func(p *Pace) time.Duration { return p.Next(1000) }, 100 * time.Millisecond},
		"of some":                   {func(p *Pace) time.Duration { return p.Next(200) }, spacing},
		"of few":                    {func(p *Pace) time.Duration { return p.Next(10) }, spacing / 10},
		"of few, without a change":  {func(p *Pace) time.Duration { return p.NextUnchanged(10) }, spacing},
		"of many, without a change": {func(p *Pace) time.Duration { return p.NextUnchanged(1000) }, 100 * time.Millisecond},
		"of none":                   {func(p *Pace) time.Duration { return p.Next(0) }, spacing / Small},
		"not worth a wait":          {func(p *Pace) time.Duration { p.spacing, p.perInstance = 9*time.Millisecond, 0; return p.Next(1) }, 0},
		"just worth a wait":         {func(p *Pace) time.Duration { p.spacing = 10 * time.Millisecond; return p.Next(1) }, minWait},
		"a spacing that is 0":       {func(p *Pace) time.Duration { p.spacing, p.perInstance = 0, 0; return p.Next(1000) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := New(4, spacing, perInstance)
				for range 2 {
					for i := range 3 { // the action before New is the first of the four
						if wait := c.next(p); wait != 0 {
							t.Errorf("action %d of the burst is followed by a wait of %v", i+1, wait)
						}
					}
					for range 5 {
						wait := c.next(p)
						if wait != c.want {
							t.Errorf("the burst is followed by a wait of %v, want %v", wait, c.want)
						}
						time.Sleep(wait)
					}
					time.Sleep(4 * 100 * time.Millisecond) // earns the burst back
				}
			})
		})
	}
}

// A caller that does not wait owes one spacing, and not one for each action.
func TestPace_DebtDoesNotGrow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := New(1, time.Second, 0)
		for range 10 {
			if wait := p.Next(Small); wait != time.Second {
				t.Errorf("the wait is %v, want 1 s", wait)
			}
		}
	})
}

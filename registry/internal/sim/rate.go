package sim

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// attemptKey names a kind of attempts that one loop makes with pauses: see [registry.Options.BackoffMin].
type attemptKey struct {
	process   int
	operation string
	what      string // service/ID
}

// attempted notes an attempt to write. If there are far too many at one moment, the store answers late, so that time goes on.
func (m *model) attempted(process int, operation, what string) {
	what, _, _ = strings.Cut(what, " ")
	key := attemptKey{process, operation, what}
	m.mu.Lock()
	all := append(m.attempts[key], time.Now())
	m.attempts[key] = all
	storm := len(all) > 100 && all[len(all)-100].Equal(all[len(all)-1])
	if storm {
		m.violated("attempts keep the documented rate", "p%d makes 100 attempts to %s %s at one moment", process, operation, what)
	}
	m.mu.Unlock()
	if storm {
		time.Sleep(time.Second)
	}
}

// reads checks the pause before a read that follows failed ones. The n-th pause is a half of BackoffMin·2ⁿ⁻¹, or of BackoffMax if that is
// less, at least.
func (m *model) reads(r *reader) {
	if r.failures == 0 {
		return
	}
	pause := min(registry.DefaultBackoffMin<<min(r.failures-1, 10), m.world.BackoffMax) / 2
	if waited := time.Since(r.failedAt); waited < pause {
		m.mu.Lock()
		m.violated("attempts keep the documented rate", "p%d reads %s %v after failure %d in a row, want %v at least", r.d.process, r.what,
			waited, r.failures, pause)
		m.mu.Unlock()
		time.Sleep(pause)
	}
}

// rateWindow is the time in which attempts are counted.
const rateWindow = 5 * time.Second

// mostAttempts returns how many attempts one loop makes in a rateWindow at most, if each pause is as short as it may be.
func (w World) mostAttempts() int {
	n, passed := 1, time.Duration(0)
	for failures := 0; passed < rateWindow; failures++ {
		passed += min(registry.DefaultBackoffMin<<min(failures, 10), w.BackoffMax) / 2
		n++
	}
	return n
}

// checkRates checks that attempts to write keep the documented rate. m.mu is locked.
func (m *model) checkRates() {
	order := func(a, b attemptKey) int {
		return cmp.Or(cmp.Compare(a.process, b.process), cmp.Compare(a.operation, b.operation), cmp.Compare(a.what, b.what))
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.attempts), order) {
		most := m.world.mostAttempts() * (1 + m.calls[key])
		all := m.attempts[key]
		for i := most; i < len(all); i++ {
			if in := all[i].Sub(all[i-most]); in < rateWindow {
				m.violated("attempts keep the documented rate", "p%d makes %d attempts to %s %s in %v", key.process, most+1, key.operation, key.what, in)
				break
			}
		}
	}
}

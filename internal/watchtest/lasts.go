package watchtest

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// Lasts blocks until d has passed since began. It is for the length of a fault on a real server, such as a pause that is longer than a
// TTL: the length is the fault itself, and nothing else tells that it was long enough. Wait for an effect with [Eventually].
func Lasts(t testing.TB, began time.Time, d time.Duration) {
	t.Helper()
	if !sleep.For(t.Context(), time.Until(began.Add(d))) {
		t.Fatal("the test ended during the fault")
	}
}

// Rate blocks until count has grown by more than least, and returns by how much it grew each second since began. The start of an outage,
// when everything is tried at once, is among it if began is then.
func Rate(t testing.TB, what string, began time.Time, least int, count func() int) float64 {
	t.Helper()
	before := count()
	Eventually(t, what, func() bool { return count()-before > least })
	return float64(count()-before) / time.Since(began).Seconds()
}

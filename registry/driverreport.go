package registry

import (
	"sync"
	"time"
)

// reportedFailure is what a driver reported last: see [Properties.Subscribe].
type reportedFailure struct {
	mu     sync.Mutex
	text   string
	logged time.Time
}

// reportedGap is the least time between two log lines for a failure that a driver reports again and again.
const reportedGap = time.Minute

// logReported logs a failure that no call of the driver returns.
func (r *Registry) logReported(err error) {
	last := &r.reported
	last.mu.Lock()
	now, text := time.Now(), err.Error()
	again := text == last.text && now.Sub(last.logged) < reportedGap
	if !again {
		last.text, last.logged = text, now
	}
	last.mu.Unlock()
	if !again {
		r.opts.Logger.Warn("rollcall: driver reported a failure", "registry", r.name, "error", err)
	}
}

package registry

import (
	"log/slog"
	"sync"
	"time"
)

// quotaLines is how many lines a quota has for each minute.
const quotaLines = 10

// quota limits the lines with one text, each about a single query: many queries may have the same fault. The zero value is ready for use.
type quota struct {
	mu          sync.Mutex
	began       time.Time // when this minute began
	told, quiet int       // number of lines that were logged and left out in this minute
}

// allow reports whether a line may be logged now, and how many lines were left out in the minute before.
func (q *quota) allow(now time.Time) (tell bool, quiet int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.began) >= time.Minute {
		quiet = q.quiet
		q.began, q.told, q.quiet = now, 0, 0
	}
	if q.told >= quotaLines {
		q.quiet++
		return false, 0
	}
	q.told++
	return true, quiet
}

func notLogged(lines int) slog.Attr { return slog.Int("not_logged_before", lines) }

package consul

import (
	"context"
	"net/http"
	"strings"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
)

// reader is what sources of sets and of values have in common: how the next read is made, and what follows from a failure.
type reader struct {
	d     *driver // whose agent was read last: the index is from there
	phase phase
	index uint64 // in watching: what the next read waits from

	recovery failureCounts
}

// phase says how the next read is made.
type phase int

const (
	// reading: without waiting.
	reading phase = iota
	// watching: the read waits for a change from index on.
	watching
	// recovering: there was no answer, or the store began again. The read comes after an election, and is consistent.
	recovering
)

// failureCounts counts the failures in a row since the last success.
type failureCounts struct {
	noLeader int // there was no leader, or no answer to the question for one, so that no read was made
	notReady int // the leader was not ready for a consistent read
}

// A leader that cannot finish taking office answers all reads but consistent ones, which it keeps for 7 s and refuses with the words of
// notReady. After maxNotReady such answers, any answer is better than none.
const (
	notReady    = "Not ready to serve consistent reads"
	maxNotReady = 3
)

// at makes one attempt at the agent of d.
func (r *reader) at(d *driver, attempt func() error) error {
	if r.d.agent != d.agent {
		r.d = d
		r.restart()
	}
	err := attempt()
	if err != nil {
		// The index says nothing about the state of the agent that answers next. If the index is too high for it, the read waits for
		// changes that this agent has long had.
		r.restart()
	}
	return err
}

// restart leaves watching.
func (r *reader) restart() {
	if r.phase == watching {
		r.phase = reading
	}
}

// awaitLeader blocks until there is a leader. A read that may be stale needs none. After too many failures in a row, awaitLeader returns nil
// at once: there may be something before Consul that does not know of leaders.
func (r *reader) awaitLeader(ctx context.Context, what string) error {
	if r.recovery.noLeader >= agent.MaxLeaderTries || r.d.settings.Stale {
		r.recovery.noLeader = 0
		return nil
	}
	err := r.d.agent.AwaitLeader(ctx, r.d.request(what, r.d.settings.Timeout), r.d.settings.Datacenter)
	if err != nil {
		r.recovery.noLeader++
		return err
	}
	r.recovery.noLeader = 0
	return nil
}

// wantsConsistent reports whether the next read has to be consistent: a server that has just become the leader answers while it still
// replays its log, with a part of the data. A consistent read comes after the replay.
func (r *reader) wantsConsistent() bool {
	return r.phase == recovering && r.recovery.notReady < maxNotReady
}

// noteRead changes the phase after a read. status is the HTTP status, or 0 if there was no answer. Only a whole answer ends recovering. A refusal
// does not: a server that replays its log knows no token yet, and refuses all.
func (r *reader) noteRead(err error, status int) {
	switch {
	case err == nil:
		r.recovery.notReady = 0
		if r.phase == recovering {
			r.phase = reading
		}
		return
	case status == 0, status == http.StatusOK, status >= http.StatusInternalServerError:
		r.phase = recovering
	}
	if strings.Contains(err.Error(), notReady) {
		r.recovery.notReady++
	}
}

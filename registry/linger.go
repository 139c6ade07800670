package registry

import (
	"container/list"
	"context"
	"time"
)

// MaxLingering is the number of watches without a reader, of sets and values together, that a [Registry] keeps open, each for
// [Options.Linger]. The watch that lost its last reader first ends first.
const MaxLingering = 100

// shared is a read that several readers share: the feed of a query or of a key. It runs while it has readers, and lingers for
// [Options.Linger] after the last one has left.
type shared struct {
	r    *Registry
	ctx  context.Context // ends with the shared read, which outlives each of its readers
	stop context.CancelFunc
	drop func() // removes the shared read from the Registry, and remembers its last good result; called once, with r.mu locked

	// r.mu guards these.
	dropped bool
	readers int
	left    time.Time     // when the last reader left
	idle    *time.Timer   // stops the shared read Options.Linger after left
	lingers *list.Element // in r.lingering, if there is no reader
}

// newShared returns a shared read without a reader. r.mu is locked.
func (r *Registry) newShared(drop func()) shared {
	ctx, cancel := context.WithCancel(r.ctx)
	return shared{r: r, ctx: ctx, stop: cancel, drop: drop}
}

// join counts the caller as a reader. r.mu is locked.
func (s *shared) join() {
	s.readers++
	s.stopLingering()
}

func (s *shared) stopLingering() {
	if s.lingers != nil {
		s.r.lingering.Remove(s.lingers)
		s.lingers = nil
	}
}

// leave ends the reading that join began. After the last reader, the shared read lingers.
func (s *shared) leave() {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	s.readers--
	switch {
	case s.readers > 0 || r.closed || s.dropped:
	case r.opts.Linger < 0:
		s.stopAndDrop()
	default:
		s.left = time.Now()
		s.lingers = r.lingering.PushBack(s)
		if s.idle == nil {
			s.idle = time.AfterFunc(r.opts.Linger, s.lingered)
		}
		if r.lingering.Len() > MaxLingering {
			r.lingering.Front().Value.(*shared).stopAndDrop()
		}
	}
}

// lingered stops s if it has had no reader for long enough, and waits for the rest of the time if a reader came and left.
func (s *shared) lingered() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.closed || s.dropped {
		return
	}
	s.idle = nil
	if s.readers > 0 {
		return
	}
	rest := s.r.opts.Linger - time.Since(s.left)
	if rest <= 0 {
		s.stopAndDrop()
		return
	}
	s.idle = time.AfterFunc(rest, s.lingered)
}

// end is stopAndDrop for a caller that has not locked r.mu.
func (s *shared) end() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.stopAndDrop()
}

// stopAndDrop stops s and has it dropped; the next reader gets another one. r.mu is locked.
func (s *shared) stopAndDrop() {
	s.stop()
	if s.dropped {
		return
	}
	s.dropped = true
	s.stopTimer()
	s.stopLingering()
	s.drop()
}

func (s *shared) stopTimer() {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
}

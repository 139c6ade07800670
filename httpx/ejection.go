package httpx

import (
	"time"

	"github.com/rollcall-go/rollcall/internal/load"
)

// Only an instance that cannot be dialled is left out. A response, such as 503, ejects no instance: it counts as a slow answer for the
// policy p2c (see call.answered), and its Retry-After header is not read.

// An instance that cannot be dialled is left out for ejection, and twice as long each time, up to maxEjection.
const (
	ejection    = time.Second
	maxEjection = 30 * time.Second
)

// dialFailed records that an attempt to connect has failed, and leaves n out for a while.
func (n *node) dialFailed() {
	s := n.service
	s.Lock()
	defer s.Unlock()
	if n.isRetired.Load() {
		return
	}
	was := n.link.Failed
	n.link.Failed = n.link.Ready == 0
	if n.isEjected.Load() && !n.isProbed.Swap(false) { // several attempts had begun before the first of them failed
		if n.link.Failed != was {
			s.linkChanged(false) // a last resort may be allowed now
		}
		return
	}
	n.isProbed.Store(false)
	n.probeAt.Store(int64(load.Clock() + min(ejection<<min(n.failures, 5), maxEjection)))
	n.failures++
	n.isEjected.Store(true)
	s.rebuild()
}

// probe reports whether a request may try n, which is left out. It returns true to one request at a time.
func (n *node) probe(now time.Duration) bool {
	at := n.probeAt.Load()
	if int64(now) < at || !n.probeAt.CompareAndSwap(at, int64(now+connectTimeout)) {
		return false
	}
	n.isProbed.Store(true)
	return true
}

// worked records that n has answered a request.
func (n *node) worked() {
	if !n.isEjected.Load() {
		return
	}
	s := n.service
	s.Lock()
	defer s.Unlock()
	n.forgetFailures()
	s.rebuild()
}

// forgetFailures ends the ejection. service.mu is locked.
func (n *node) forgetFailures() {
	n.failures, n.link.Failed = 0, false
	n.isEjected.Store(false)
	n.isProbed.Store(false)
}

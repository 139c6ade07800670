package consul

import (
	"net/http"
	"strconv"
	"time"
)

// tooOld reports whether an answer is older than bound, or does not say how old it is. A bound of 0 is none. The source drops such an answer
// unread, and reads again from the leader: see source.read.
func tooOld(h http.Header, bound time.Duration) bool {
	if bound == 0 {
		return false
	}
	ms, err := strconv.ParseUint(h.Get("X-Consul-LastContact"), 10, 32)
	return err != nil || time.Duration(ms)*time.Millisecond > bound
}

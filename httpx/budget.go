package httpx

import "sync/atomic"

// budget limits how often requests of a service are sent again: it is a token bucket that responses fill.
type budget struct {
	tokens atomic.Int64 // in tenths
	most   int64
}

// init makes the budget allow n lost requests in a row to be sent again.
func (b *budget) init(n int) {
	b.most = 10 * int64(n)
	b.tokens.Store(b.most)
}

// responded counts a response, which is worth a tenth of a token.
func (b *budget) responded() {
	if now := b.tokens.Load(); now < b.most {
		b.tokens.CompareAndSwap(now, now+1) // a response that is not counted because of a race does not matter
	}
}

// lost counts a lost request, and reports whether it may be sent again.
func (b *budget) lost() bool {
	for {
		now := b.tokens.Load()
		if now < 10 {
			return false
		}
		if b.tokens.CompareAndSwap(now, now-10) {
			return true
		}
	}
}

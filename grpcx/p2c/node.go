package p2c

import (
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
)

// node is what is known of one instance. Each of its fields stands for itself: calls that race leave values which each of
// them could have left.
type node struct {
	calls   atomic.Uint64 // started so far in the upper half, outstanding in the lower
	latency atomic.Uint64 // see reading
	next    atomic.Uint32 // number of the call whose time is taken next
	gap     atomic.Uint32 // from that of the one before
	timed   atomic.Int64  // when that one started, on clock
	end     func(balancer.DoneInfo)
	_       [24]byte // to a cache line: another instance's calls do not slow those of this one
}

const (
	spacing = time.Millisecond // calls that start further apart have their time taken, each
	maxGap  = 8
)

func newNode() *node {
	n := new(node)
	n.gap.Store(1)
	n.timed.Store(int64(clock() - spacing))
	n.end = func(balancer.DoneInfo) { n.calls.Add(^uint64(0)) }
	return n
}

// start counts a call, and returns its number. Each start needs its end.
func (n *node) start() uint32 { return uint32(n.calls.Add(1<<32+1) >> 32) }

// due reports whether the time of that call is to be taken.
func (n *node) due(number uint32) bool { return int32(number-n.next.Load()) >= 0 }

// plan notes that the time of that call is taken, and which is next.
func (n *node) plan(number uint32, now time.Duration) {
	gap := n.gap.Load()
	if now-time.Duration(n.timed.Swap(int64(now))) < spacing {
		gap = min(2*gap, maxGap)
	} else {
		gap = max(gap/2, 1)
	}
	n.gap.Store(gap)
	n.next.Store(number + gap)
}

// before reports whether n is likely to answer sooner than other.
func (n *node) before(other *node) bool {
	mine, theirs := float32(uint32(n.calls.Load())), float32(uint32(other.calls.Load()))
	latency, otherLatency := reading(n.latency.Load()).latency(), reading(other.latency.Load()).latency()
	if latency == 0 || otherLatency == 0 {
		return mine < theirs
	}
	return latency*(mine+1) < otherLatency*(theirs+1)
}

// observe notes that an answer took so long.
func (n *node) observe(took, now time.Duration, decay time.Duration) {
	latency := max(float32(took), 1)
	n.change(func(old reading) reading {
		was := old.latency()
		if was == 0 || latency > was {
			return newReading(latency, now)
		}
		since := old.age(now)
		if since < decay/4096 { // its weight would be lost in rounding; the next answer weighs for this one too
			return old
		}
		return newReading(latency+(was-latency)*remains(since, decay), now)
	})
}

// peak notes that a call failed after so long.
func (n *node) peak(took, now time.Duration) {
	n.change(func(old reading) reading {
		if was := old.latency(); was == 0 || float32(took) <= was {
			return old
		}
		return newReading(float32(took), now)
	})
}

// concede notes that n has lost a comparison to winner.
func (n *node) concede(winner *node, now, decay time.Duration) {
	better := reading(winner.latency.Load()).latency()
	n.change(func(old reading) reading {
		since := old.age(now)
		if better == 0 || old.latency() <= better || since < decay/128 { // often enough, and not at each pick
			return old
		}
		goal := better / 2
		return newReading(goal+(old.latency()-goal)*remains(since, decay), now)
	})
}

func (n *node) change(f func(reading) reading) {
	for {
		old := n.latency.Load()
		changed := uint64(f(reading(old)))
		if changed == old || n.latency.CompareAndSwap(old, changed) {
			return
		}
	}
}

// remains returns how much a latency still counts for after a time.
func remains(since, decay time.Duration) float32 {
	return float32(math.Exp(-float64(since) / float64(decay)))
}

// reading is a latency in nanoseconds, as a float32, and when it was true, in ticks of clock: one word, so that both change
// as one. 0 is none.
type reading uint64

const tick = 20 // 2²⁰ ns: the 32 bits come around after 52 days

func newReading(latency float32, now time.Duration) reading {
	return reading(math.Float32bits(latency))<<32 | reading(uint32(now>>tick))
}

func (r reading) latency() float32 { return math.Float32frombits(uint32(r >> 32)) }

// age is 0 for a reading from the future, which another call's clock may be.
func (r reading) age(now time.Duration) time.Duration {
	return time.Duration(max(int32(uint32(now>>tick)-uint32(r)), 0)) << tick
}

// Package load has the measure by which the policy p2c compares instances: latency times outstanding calls. The doc of package grpcx/p2c
// explains it.
package load

import (
	"math"
	"sync/atomic"
	"time"
)

// Node has the load and the latency of one instance. Each field is updated atomically, and does not depend on the others: racing calls
// leave a value that one of them alone could have left.
type Node struct {
	calls     atomic.Uint64 // number of calls so far in the upper half, and of outstanding calls in the lower half
	latency   atomic.Uint64 // a reading
	faults    atomic.Uint64 // a reading: the share of the last calls that failed by the server's fault, from 0 to 1
	nextTimed atomic.Uint32 // number of the next call that is measured
	gap       atomic.Uint32 // number of calls from one measured call to the next
	lastTimed atomic.Int64  // when the last measured call started, on clock
}

const (
	spacing = time.Millisecond // calls that start further apart are all measured
	maxGap  = 8
)

// Init must be called before all other methods.
func (n *Node) Init() {
	n.gap.Store(1)
	n.lastTimed.Store(int64(Clock() - spacing))
}

// Start counts a call, and returns its number. Each call of Start needs a call of End.
func (n *Node) Start() uint32 { return uint32(n.calls.Add(1<<32+1) >> 32) }

// End counts the end of a call that Start has counted.
func (n *Node) End() { n.calls.Add(^uint64(0)) }

// Outstanding returns the number of calls that have started and not ended.
func (n *Node) Outstanding() int { return int(uint32(n.calls.Load())) }

// Latency returns the latency, or 0 if there is none yet.
func (n *Node) Latency() time.Duration { return time.Duration(reading(n.latency.Load()).value()) }

// HasFaults reports whether some of the last calls failed by the server's fault.
func (n *Node) HasFaults() bool { return n.faults.Load() != 0 }

// MeasureNext decides whether the next call must be measured. It is for tests and benchmarks.
func (n *Node) MeasureNext(measured bool) {
	next := uint32(n.calls.Load() >> 32)
	if !measured {
		next += 1 << 30
	}
	n.nextTimed.Store(next)
}

// Due reports whether the call with this number must be measured.
func (n *Node) Due(number uint32) bool { return int32(number-n.nextTimed.Load()) >= 0 }

// Plan records that the call with this number is measured, and decides which one is next.
func (n *Node) Plan(number uint32, now time.Duration) {
	gap := n.gap.Load()
	if now-time.Duration(n.lastTimed.Swap(int64(now))) < spacing {
		gap = min(2*gap, maxGap)
	} else {
		gap = max(gap/2, 1)
	}
	n.gap.Store(gap)
	n.nextTimed.Store(number + gap)
}

// Before reports whether n is likely to answer sooner than other.
func (n *Node) Before(other *Node) bool {
	mine, theirs := n.load(), other.load()
	latency, otherLatency := reading(n.latency.Load()).value(), reading(other.latency.Load()).value()
	if latency == 0 || otherLatency == 0 {
		return mine < theirs
	}
	return latency*mine < otherLatency*theirs
}

// severity determines how much failures count: the load is multiplied by 1 + severity·share². share is the share of failing calls.
// The share is squared because the cause of a few failures is usually the calls, and the cause of many is the server.
const severity = 1000

// load returns the number of outstanding calls plus one for the new call, multiplied by 1 + severity·share² if calls fail.
func (n *Node) load() float32 {
	load := float32(uint32(n.calls.Load())) + 1
	if faults := n.faults.Load(); faults != 0 {
		share := reading(faults).value()
		load *= 1 + severity*share*share
	}
	return load
}

// memory is the number of calls over which the share of failures is averaged.
const memory = 8

// Judgement is what the end of a call says about its server.
type Judgement int

// The judgements.
const (
	Unknown Judgement = iota
	Works
	AtFault
)

// Judge updates the share of failures at the end of a call.
func (n *Node) Judge(what Judgement) {
	if what == Unknown {
		return
	}
	now := Clock()
	change(&n.faults, func(old reading) reading {
		share := old.value()
		if what == AtFault {
			return newReading(share+(1-share)/memory, now)
		}
		share -= share / memory
		if share < 1.0/1024 {
			return 0
		}
		return newReading(share, now)
	})
}

// ResetFaults sets the share of failures to 0, when n has a new connection.
func (n *Node) ResetFaults() { n.faults.Store(0) }

// Observe records the time of an answer.
func (n *Node) Observe(took, now time.Duration, decay time.Duration) {
	latency := max(float32(took), 1)
	n.change(func(old reading) reading {
		was := old.value()
		if was == 0 || latency > was {
			return newReading(latency, now)
		}
		since := old.age(now)
		if since < decay/4096 { // the weight of this answer would be lost in rounding; the weight of the next answer includes it
			return old
		}
		return newReading(latency+(was-latency)*remains(since, decay), now)
	})
}

// Peak records the time of a call that failed.
func (n *Node) Peak(took, now time.Duration) {
	n.change(func(old reading) reading {
		if was := old.value(); was == 0 || float32(took) <= was {
			return old
		}
		return newReading(float32(took), now)
	})
}

// Concede lowers the latency of n, which has lost a comparison to winner, so that n gets a call again one day.
func (n *Node) Concede(winner *Node, now, decay time.Duration) {
	better := reading(winner.latency.Load()).value()
	n.change(func(old reading) reading {
		since := old.age(now)
		if better == 0 || old.value() <= better || since < decay/128 { // a change at each pick would be slow
			return old
		}
		goal := better / 2
		return newReading(goal+(old.value()-goal)*remains(since, decay), now)
	})
	if n.faults.Load() == 0 {
		return
	}
	change(&n.faults, func(old reading) reading {
		since := old.age(now)
		if old == 0 || since < decay/128 {
			return old
		}
		return newReading(old.value()*remains(since, decay), now)
	})
}

func (n *Node) change(f func(reading) reading) { change(&n.latency, f) }

func change(word *atomic.Uint64, f func(reading) reading) {
	for {
		old := word.Load()
		changed := uint64(f(reading(old)))
		if changed == old || word.CompareAndSwap(old, changed) {
			return
		}
	}
}

// remains returns by which factor a value has decayed after a time.
func remains(since, decay time.Duration) float32 {
	return float32(math.Exp(-float64(since) / float64(decay)))
}

// reading is a value, as a float32, and the time of it, in ticks of clock. It is one word, so that both change at once. The value is a
// latency in nanoseconds or a share. 0 means that there is none.
type reading uint64

const tick = 20 // 2²⁰ ns, so that 32 bits overflow after 52 days

func newReading(value float32, now time.Duration) reading {
	return reading(math.Float32bits(value))<<32 | reading(uint32(now>>tick))
}

func (r reading) value() float32 { return math.Float32frombits(uint32(r >> 32)) }

// age returns 0 for a reading from the future, which another call may have made.
func (r reading) age(now time.Duration) time.Duration {
	return time.Duration(max(int32(uint32(now>>tick)-uint32(r)), 0)) << tick
}

// epoch is the zero of Clock. Reading only the monotonic clock is twice as fast as [time.Now].
var epoch = time.Now()

// Clock returns the time for the methods of a Node.
func Clock() time.Duration { return time.Since(epoch) }

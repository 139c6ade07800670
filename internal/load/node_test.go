package load

import (
	"math"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

func newNode() *Node {
	n := new(Node)
	n.Init()
	return n
}

func about(got, want time.Duration) bool { return math.Abs(float64(got-want)) <= float64(want)/100 }

func TestNode_LatencyIsMovingAverageThatJumpsUp(t *testing.T) {
	const decay = 10 * time.Second
	bubble.Test(t, func(t *testing.T) {
		n := newNode()
		check := func(when string, want time.Duration) {
			t.Helper()
			if got := n.Latency(); !about(got, want) {
				t.Errorf("%s it is %v, want %v", when, got, want)
			}
		}
		n.Observe(5*time.Millisecond, Clock(), decay)
		check("after the first answer", 5*time.Millisecond)
		n.Observe(100*time.Millisecond, Clock(), decay)
		check("after a slow one", 100*time.Millisecond)
		n.Observe(time.Millisecond, Clock(), decay)
		check("after a fast one at the same time", 100*time.Millisecond)
		time.Sleep(decay)
		n.Observe(0, Clock(), decay)
		check("after a fast one as late as the decay", 100*time.Millisecond*1000/2718)
		n.Peak(10*time.Millisecond, Clock())
		check("after a failure that took less", 100*time.Millisecond*1000/2718)
		n.Peak(2*time.Second, Clock())
		check("after a failure that took more", 2*time.Second)
		time.Sleep(20 * decay)
		n.Observe(3*time.Millisecond, Clock(), decay)
		check("after a very late one", 3*time.Millisecond)

		// As fast as they may come, answers lose no weight.
		n.Peak(time.Second, Clock())
		for began := time.Now(); time.Since(began) < decay; {
			time.Sleep(250 * time.Microsecond)
			n.Observe(0, Clock(), decay)
		}
		check("after many", time.Second*1000/2718)
	})
}

func TestNode_ConcedeLowersLatency(t *testing.T) {
	const decay = time.Second
	bubble.Test(t, func(t *testing.T) {
		winner, loser := newNode(), newNode()
		loser.Concede(winner, Clock(), decay)
		if loser.Latency() != 0 {
			t.Error("one without a latency has got one")
		}
		loser.Observe(100*time.Millisecond, Clock(), decay)
		time.Sleep(decay)
		loser.Concede(winner, Clock(), decay)
		if got := loser.Latency(); got != 100*time.Millisecond {
			t.Errorf("it concedes %v to one without a latency", got)
		}
		winner.Observe(10*time.Millisecond, Clock(), decay)
		loser.Observe(200*time.Millisecond, Clock(), decay)
		for range 1000 { // as often as it likes
			time.Sleep(decay / 1000)
			loser.Concede(winner, Clock(), decay)
		}
		if got, want := loser.Latency(), 5*time.Millisecond+195*time.Millisecond*1000/2718; !about(got, want) {
			t.Errorf("in the time of a decay it falls to %v, want %v", got, want)
		}
		time.Sleep(time.Hour)
		loser.Concede(winner, Clock(), decay)
		if got := loser.Latency(); !about(got, 5*time.Millisecond) {
			t.Errorf("in the end it falls to %v, want half of what the other takes", got)
		}
		loser.Concede(winner, Clock(), decay)
		winner.Concede(loser, Clock(), decay)
		if got := loser.Latency(); !about(got, 5*time.Millisecond) {
			t.Errorf("it falls further, to %v", got)
		}
	})
}

func TestReading_FromFutureHasNoAge(t *testing.T) {
	for _, now := range []time.Duration{0, time.Hour, 1<<32<<tick - 1, 1 << 32 << tick, 3 << 32 << tick} {
		r := newReading(1, now)
		if got := r.age(now - time.Second); got != 0 {
			t.Errorf("at %v: a second before, its age is %v", now, got)
		}
		if got := r.age(now + time.Hour); !about(got, time.Hour) {
			t.Errorf("at %v: an hour later, its age is %v", now, got)
		}
	}
}

func TestNode_MeasuresFewerCallsIfTheyComeFaster(t *testing.T) {
	for _, c := range []struct {
		every time.Duration
		least int // of 1000
		most  int
	}{
		{time.Second, 1000, 1000},
		{time.Millisecond, 1000, 1000},
		{500 * time.Microsecond, 400, 700},
		{time.Microsecond, 125, 128},
		{0, 125, 128},
	} {
		bubble.Test(t, func(t *testing.T) {
			n := newNode()
			timed := 0
			for range 1000 {
				time.Sleep(c.every)
				if number := n.Start(); n.Due(number) {
					n.Plan(number, Clock())
					timed++
				}
			}
			if timed < c.least || timed > c.most {
				t.Errorf("with a call every %v, %d of 1000 are timed, want %d to %d", c.every, timed, c.least, c.most)
			}
			time.Sleep(time.Minute) // and all of them again, soon
			timed = 0
			for range 100 {
				time.Sleep(time.Second)
				if number := n.Start(); n.Due(number) {
					n.Plan(number, Clock())
					timed++
				}
			}
			if timed < 80 {
				t.Errorf("with a call every %v before, %d of 100 slow ones are timed", c.every, timed)
			}
		})
	}
}

func TestNode_NumbersOfCallsOverflow(t *testing.T) {
	n := newNode()
	n.calls.Store((1<<32 - 2) << 32)
	n.nextTimed.Store(1<<32 - 1)
	for i := range 20 {
		number := n.Start()
		if !n.Due(number) {
			t.Errorf("call %d, number %d, is not timed", i, number)
		}
		n.gap.Store(1)
		n.lastTimed.Store(int64(Clock() - time.Hour))
		n.Plan(number, Clock())
	}
	if got := n.Outstanding(); got != 20 {
		t.Errorf("%d are outstanding, want 20", got)
	}
}

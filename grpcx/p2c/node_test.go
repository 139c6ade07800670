package p2c

import (
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
)

func (n *node) outstanding() uint32 { return uint32(n.calls.Load()) }

func (n *node) seen() time.Duration { return time.Duration(reading(n.latency.Load()).latency()) }

func about(got, want time.Duration) bool { return math.Abs(float64(got-want)) <= float64(want)/100 }

func TestLatencyIsAMovingAverageThatJumpsUp(t *testing.T) {
	const decay = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		check := func(when string, want time.Duration) {
			t.Helper()
			if got := n.seen(); !about(got, want) {
				t.Errorf("%s it is %v, want %v", when, got, want)
			}
		}
		n.observe(5*time.Millisecond, clock(), decay)
		check("after the first answer", 5*time.Millisecond)
		n.observe(100*time.Millisecond, clock(), decay)
		check("after a slow one", 100*time.Millisecond)
		n.observe(time.Millisecond, clock(), decay)
		check("after a fast one at the same time", 100*time.Millisecond)
		time.Sleep(decay)
		n.observe(0, clock(), decay)
		check("after a fast one as late as the decay", 100*time.Millisecond*1000/2718)
		n.peak(10*time.Millisecond, clock())
		check("after a failure that took less", 100*time.Millisecond*1000/2718)
		n.peak(2*time.Second, clock())
		check("after a failure that took more", 2*time.Second)
		time.Sleep(20 * decay)
		n.observe(3*time.Millisecond, clock(), decay)
		check("after one that is late by far", 3*time.Millisecond)

		// As fast as they may come, answers lose no weight.
		n.peak(time.Second, clock())
		for began := time.Now(); time.Since(began) < decay; {
			time.Sleep(250 * time.Microsecond)
			n.observe(0, clock(), decay)
		}
		check("after many", time.Second*1000/2718)
	})
}

func TestTheLoserConcedes(t *testing.T) {
	const decay = time.Second
	synctest.Test(t, func(t *testing.T) {
		winner, loser := newNode(), newNode()
		loser.concede(winner, clock(), decay)
		if loser.seen() != 0 {
			t.Error("one without a latency has got one")
		}
		loser.observe(100*time.Millisecond, clock(), decay)
		time.Sleep(decay)
		loser.concede(winner, clock(), decay)
		if got := loser.seen(); got != 100*time.Millisecond {
			t.Errorf("it concedes %v to one without a latency", got)
		}
		winner.observe(10*time.Millisecond, clock(), decay)
		loser.observe(200*time.Millisecond, clock(), decay)
		for range 1000 { // as often as it likes
			time.Sleep(decay / 1000)
			loser.concede(winner, clock(), decay)
		}
		if got, want := loser.seen(), 5*time.Millisecond+195*time.Millisecond*1000/2718; !about(got, want) {
			t.Errorf("in the time of a decay it falls to %v, want %v", got, want)
		}
		time.Sleep(time.Hour)
		loser.concede(winner, clock(), decay)
		if got := loser.seen(); !about(got, 5*time.Millisecond) {
			t.Errorf("in the end it falls to %v, want half of what the other takes", got)
		}
		loser.concede(winner, clock(), decay)
		winner.concede(loser, clock(), decay)
		if got := loser.seen(); !about(got, 5*time.Millisecond) {
			t.Errorf("it falls further, to %v", got)
		}
	})
}

func TestAReadingFromTheFutureHasNoAge(t *testing.T) {
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

func TestTheTimeOfFewerCallsIsTakenAsTheyComeFaster(t *testing.T) {
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
		synctest.Test(t, func(t *testing.T) {
			n := newNode()
			timed := 0
			for range 1000 {
				time.Sleep(c.every)
				if number := n.start(); n.due(number) {
					n.plan(number, clock())
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
				if number := n.start(); n.due(number) {
					n.plan(number, clock())
					timed++
				}
			}
			if timed < 80 {
				t.Errorf("with a call every %v before, %d of 100 slow ones are timed", c.every, timed)
			}
		})
	}
}

func TestNumbersOfCallsComeAround(t *testing.T) {
	n := newNode()
	n.calls.Store((1<<32 - 2) << 32)
	n.next.Store(1<<32 - 1)
	for i := range 20 {
		number := n.start()
		if !n.due(number) {
			t.Errorf("call %d, number %d, is not timed", i, number)
		}
		n.gap.Store(1)
		n.timed.Store(int64(clock() - time.Hour))
		n.plan(number, clock())
	}
	if got := n.outstanding(); got != 20 {
		t.Errorf("%d are outstanding, want 20", got)
	}
}

func TestEveryStartHasItsEnd(t *testing.T) {
	n := newNode()
	p := &picker{ready: []choice{{Picker: fixed{}, node: n}}, decay: time.Millisecond}
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for j := range 5000 {
				method := []string{"/grpc.testing.TestService/UnaryCall", "/a/b"}[(i+j)%2]
				r, err := p.Pick(balancer.PickInfo{FullMethodName: method})
				if err != nil {
					t.Error(err)
				}
				r.Done([]balancer.DoneInfo{{BytesReceived: true}, {}}[j%2])
			}
		})
	}
	work.Wait()
	if got := n.outstanding(); got != 0 {
		t.Errorf("%d are outstanding after the end of all", got)
	}
}

// What the picker of the connection wants to be told, it is told.
func TestDoneIsPassedOn(t *testing.T) {
	told := 0
	n := newNode()
	p := &picker{ready: []choice{{Picker: fixed{done: func(balancer.DoneInfo) { told++ }}, node: n}}, decay: time.Second}
	for range 10 {
		for _, method := range []string{"/grpc.testing.TestService/UnaryCall", "/a/b"} {
			r, err := p.Pick(balancer.PickInfo{FullMethodName: method})
			if err != nil {
				t.Fatal(err)
			}
			r.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}
	if told != 20 || n.outstanding() != 0 || n.seen() == 0 {
		t.Errorf("it is told of %d calls of 20; %d are outstanding; the latency is %v", told, n.outstanding(), n.seen())
	}
}

func TestMethodsAreNotRememberedWithoutEnd(t *testing.T) {
	known.Store(nil)
	t.Cleanup(func() { known.Store(nil) })
	for i := range 2 * maxMethods {
		if unary("/no.such.Service/Method" + strconv.Itoa(i)) {
			t.Fatal("it is unary")
		}
	}
	if n := len(*known.Load()); n > maxMethods {
		t.Errorf("%d are remembered, want at most %d", n, maxMethods)
	}
	if !unary("/grpc.testing.TestService/EmptyCall") {
		t.Error("one that is described is not unary")
	}
}

func TestAPickAllocatesAtMostOnce(t *testing.T) {
	n := newNode()
	p := &picker{ready: []choice{{Picker: fixed{}, node: n}, {Picker: fixed{}, node: newNode()}}, decay: time.Second}
	info := balancer.PickInfo{FullMethodName: "/grpc.testing.TestService/UnaryCall"}
	for _, timed := range []bool{false, true} {
		got := testing.AllocsPerRun(1000, func() {
			for _, c := range p.ready {
				c.node.next.Store(uint32(c.node.calls.Load() >> 32))
				if !timed {
					c.node.next.Add(1 << 30)
				}
			}
			r, _ := p.Pick(info)
			r.Done(balancer.DoneInfo{BytesReceived: true})
		})
		if want := map[bool]float64{false: 0, true: 1}[timed]; got != want {
			t.Errorf("timed %v: a pick allocates %v times, want %v", timed, got, want)
		}
	}
}

// BenchmarkTimed measures a call whose time is taken: at high rates one in eight is, as in BenchmarkPick of picks.
func BenchmarkTimed(b *testing.B) {
	p := &picker{ready: []choice{{Picker: fixed{}, node: newNode()}, {Picker: fixed{}, node: newNode()}}, decay: defaultDecay}
	info := balancer.PickInfo{FullMethodName: "/grpc.testing.TestService/UnaryCall"}
	b.ReportAllocs()
	for b.Loop() {
		p.ready[0].node.next.Store(0)
		p.ready[1].node.next.Store(0)
		r, _ := p.Pick(info)
		r.Done(balancer.DoneInfo{BytesReceived: true})
	}
}

// fixed picks one connection, as a pick_first does that is ready.
type fixed struct{ done func(balancer.DoneInfo) }

func (f fixed) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{Done: f.done}, nil
}

package p2c

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
)

func TestPicker_EveryStartHasItsEnd(t *testing.T) {
	n := newNode()
	p := &picker{ready: []readyNode{{Picker: fixed{}, node: n}}, decay: time.Millisecond}
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
	if got := n.Outstanding(); got != 0 {
		t.Errorf("%d are outstanding after the end of all", got)
	}
}

// What the picker of the connection wants to be told, it is told.
func TestPicker_CallsDoneOfChild(t *testing.T) {
	told := 0
	n := newNode()
	p := &picker{ready: []readyNode{{Picker: fixed{done: func(balancer.DoneInfo) { told++ }}, node: n}}, decay: time.Second}
	for range 10 {
		for _, method := range []string{"/grpc.testing.TestService/UnaryCall", "/a/b"} {
			r, err := p.Pick(balancer.PickInfo{FullMethodName: method})
			if err != nil {
				t.Fatal(err)
			}
			r.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}
	if told != 20 || n.Outstanding() != 0 || n.Latency() == 0 {
		t.Errorf("it is told of %d calls of 20; %d are outstanding; the latency is %v", told, n.Outstanding(), n.Latency())
	}
}

func TestUnary_RemembersLimitedNumberOfMethods(t *testing.T) {
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
		t.Error("EmptyCall, which is in the registry of descriptors, counts as not unary")
	}
}

func TestPicker_AllocatesAtMostOnce(t *testing.T) {
	n := newNode()
	p := &picker{ready: []readyNode{{Picker: fixed{}, node: n}, {Picker: fixed{}, node: newNode()}}, decay: time.Second}
	info := balancer.PickInfo{FullMethodName: "/grpc.testing.TestService/UnaryCall"}
	for _, timed := range []bool{false, true} {
		got := testing.AllocsPerRun(1000, func() {
			for _, c := range p.ready {
				c.node.MeasureNext(timed)
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
	p := &picker{ready: []readyNode{{Picker: fixed{}, node: newNode()}, {Picker: fixed{}, node: newNode()}}, decay: defaultDecay}
	info := balancer.PickInfo{FullMethodName: "/grpc.testing.TestService/UnaryCall"}
	b.ReportAllocs()
	for b.Loop() {
		p.ready[0].node.MeasureNext(true)
		p.ready[1].node.MeasureNext(true)
		r, _ := p.Pick(info)
		r.Done(balancer.DoneInfo{BytesReceived: true})
	}
}

// fixed picks one connection, as a pick_first does that is ready.
type fixed struct{ done func(balancer.DoneInfo) }

func (f fixed) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{Done: f.done}, nil
}

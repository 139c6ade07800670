package p2c_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/interop/grpc_testing" // describes the methods below

	"github.com/rollcall-go/rollcall/grpcx/internal/policytest"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	unaryCall = "/grpc.testing.TestService/UnaryCall"
	stream    = "/grpc.testing.TestService/FullDuplexCall"
)

var (
	answered = balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	failed   = balancer.DoneInfo{BytesSent: true, BytesReceived: true, Err: errors.New("no")}
)

// instances have the addresses a, b, c and so on.
func instances(n int) []registry.Instance {
	out := make([]registry.Instance, n)
	for i := range out {
		out[i] = registry.Instance{Address: string(rune('a' + i)), Weight: 1}
	}
	return out
}

// of returns a channel to so many instances. It is for a synctest bubble.
func of(t *testing.T, n int) *policytest.Channel {
	t.Helper()
	c := policytest.New(t, p2c.Name, `{}`)
	resolved(t, c, instances(n)...)
	return c
}

func resolved(t *testing.T, c *policytest.Channel, instances ...registry.Instance) {
	t.Helper()
	if err := c.Resolve(policytest.Endpoints(t, instances...)...); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func start(t *testing.T, c *policytest.Channel, method string) (who string, end func(balancer.DoneInfo)) {
	t.Helper()
	who, end, err := c.Pick(balancer.PickInfo{FullMethodName: method})
	if err != nil {
		t.Fatal(err)
	}
	return who, end
}

// servers has the time that each server takes to answer.
type servers map[string]time.Duration

// serve makes unary calls one after another for a time, and returns how many each server got.
func (s servers) serve(t *testing.T, c *policytest.Channel, during time.Duration) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for began := time.Now(); time.Since(began) < during; {
		who, end := start(t, c, unaryCall)
		counts[who]++
		time.Sleep(s[who])
		end(answered)
	}
	return counts
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func TestPolicy_PrefersFastInstancesAndRetriesSlowOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 3), servers{"a": time.Millisecond, "b": 100 * time.Millisecond, "c": time.Millisecond}
		s.serve(t, c, time.Second) // each is seen once
		got := s.serve(t, c, 50*time.Second)
		if n := total(got); got["b"] > 1 || got["a"] < n/3 || got["c"] < n/3 {
			t.Errorf("with b slow the calls are %v", got)
		}
		got = s.serve(t, c, 5*time.Minute)
		if got["b"] < 3 || got["b"] > 7 {
			t.Errorf("b is slow for five minutes, and is tried %d times, want about once a minute", got["b"])
		}
		s["b"] = time.Millisecond
		s.serve(t, c, time.Minute)
		got = s.serve(t, c, 10*time.Second)
		for _, who := range []string{"a", "b", "c"} {
			if n := total(got); got[who] < n/4 {
				t.Errorf("a minute after b became fast the calls are %v", got)
			}
		}
	})
}

// Calls come on their own time, however long the open ones take.
func TestPolicy_SlowServerCostsLessThanWithRoundRobin(t *testing.T) {
	mean := func(policy string) (mean time.Duration) {
		bubble.Test(t, func(t *testing.T) {
			c := policytest.New(t, policy, `{}`)
			resolved(t, c, instances(10)...)
			var spent atomic.Int64
			var work sync.WaitGroup
			const n = 20_000
			for range n {
				work.Go(func() {
					who, end := start(t, c, unaryCall)
					takes := 2 * time.Millisecond
					if who == "a" {
						takes = 100 * time.Millisecond
					}
					time.Sleep(takes)
					if end != nil {
						end(answered)
					}
					spent.Add(int64(takes))
				})
				time.Sleep(500 * time.Microsecond)
			}
			work.Wait()
			mean = time.Duration(spent.Load() / n)
		})
		return mean
	}
	theirs, ours := mean("round_robin"), mean(p2c.Name)
	if theirs < 11*time.Millisecond { // 2 + 98/10
		t.Errorf("with round_robin a call takes %v on average, want 11.8 ms", theirs)
	}
	if ours > 3*time.Millisecond {
		t.Errorf("a call takes %v on average, and %v with round_robin, want little more than 2 ms", ours, theirs)
	}
	t.Logf("%v, and %v with round_robin", ours, theirs)
}

func TestPolicy_AvoidsInstanceAfterOneSlowAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 2), servers{"a": time.Millisecond, "b": time.Millisecond}
		s.serve(t, c, time.Minute)
		s["b"] = 200 * time.Millisecond
		for who := ""; who != "b"; {
			for who = range s.serve(t, c, time.Millisecond) {
			}
		}
		s["b"] = time.Millisecond
		if got := s.serve(t, c, 10*time.Second); got["b"] != 0 {
			t.Errorf("in 10 s after its slow answer b gets %d calls", got["b"])
		}
	})
}

func TestParseConfig_SetsDecay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := policytest.New(t, p2c.Name, `{"decay":"1s"}`), servers{"a": time.Millisecond, "b": 100 * time.Millisecond}
		resolved(t, c, instances(2)...)
		s.serve(t, c, time.Second)
		// ln(2·100-1) = 5.3 times the decay from one try to the next.
		if got := s.serve(t, c, time.Minute)["b"]; got < 9 || got > 12 {
			t.Errorf("b is tried %d times in a minute, want about 11", got)
		}
	})
}

func TestPolicy_CountsOutstandingCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := of(t, 2)
		open := map[string][]func(balancer.DoneInfo){}
		for range 100 {
			who, end := start(t, c, stream)
			open[who] = append(open[who], end)
		}
		if len(open["a"]) != 50 || len(open["b"]) != 50 {
			t.Fatalf("a and b get %d and %d of 100 streams", len(open["a"]), len(open["b"]))
		}
		for _, end := range open["b"][:20] {
			end(answered)
		}
		c.Down("a") // a connection that breaks loses no count
		synctest.Wait()
		c.Up("a")
		synctest.Wait()
		for range 20 {
			if who, _ := start(t, c, stream); who != "b" {
				t.Fatal("a, which has 50 open, gets a stream before b has as many")
			}
		}
	})
}

func TestPolicy_ComparesLatencyTimesOutstandingCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 2), servers{"a": 2 * time.Millisecond, "b": 6 * time.Millisecond}
		s.serve(t, c, 100*time.Millisecond)
		counts := map[string]int{}
		for range 40 {
			who, _ := start(t, c, unaryCall)
			counts[who]++
		}
		if counts["a"] < 29 || counts["a"] > 31 {
			t.Errorf("of 40 calls at once a and b get %v, want 30 and 10", counts)
		}
	})
}

func TestPolicy_DoesNotMeasureStreams(t *testing.T) {
	for _, method := range []string{stream, "/grpc.testing.TestService/StreamingInputCall", "/grpc.testing.TestService/StreamingOutputCall",
		"/no.such.Service/Call", "/grpc.testing.TestService/NoSuchCall", "/grpc.testing/TestService", "unary", ""} {
		bubble.Test(t, func(t *testing.T) {
			c, s := of(t, 2), servers{"a": time.Millisecond, "b": time.Millisecond}
			s.serve(t, c, time.Second)
			who, end := start(t, c, method)
			if got := s.serve(t, c, 10*time.Second); got[who] != 0 {
				t.Errorf("%s: %s gets %d calls while it has one open and the other has none", method, who, got[who])
			}
			end(answered)
			got := s.serve(t, c, 10*time.Second)
			if n := total(got); got[who] < n/4 || got[who] > 3*n/4 {
				t.Errorf("%s: %s had one open for 10 s, and then gets %d calls of %d", method, who, got[who], n)
			}
		})
	}
}

func TestPolicy_FailureIsNoFastAnswer(t *testing.T) {
	for name, end := range map[string]balancer.DoneInfo{"failed": failed, "never sent": {}} {
		bubble.Test(t, func(t *testing.T) {
			c, s := of(t, 2), servers{"a": 10 * time.Millisecond, "b": 10 * time.Millisecond}
			s.serve(t, c, time.Second)
			counts := map[string]int{}
			for range 2000 {
				who, done := start(t, c, unaryCall)
				counts[who]++
				if who == "b" {
					time.Sleep(time.Microsecond)
					done(end)
					continue
				}
				time.Sleep(10 * time.Millisecond)
				done(answered)
			}
			if counts["b"] > 1200 {
				t.Errorf("%s: b fails at once, and gets %d calls of 2000", name, counts["b"])
			}
		})
	}
}

func TestPolicy_CallThatTimesOutIsSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 2), servers{"a": time.Millisecond, "b": time.Millisecond}
		s.serve(t, c, time.Second)
		who, end := start(t, c, unaryCall)
		time.Sleep(time.Second)
		end(balancer.DoneInfo{BytesSent: true, Err: errors.New("deadline exceeded")})
		if got := s.serve(t, c, 10*time.Second); got[who] != 0 {
			t.Errorf("after its call timed out, %s gets %d calls in 10 s", who, got[who])
		}
	})
}

func TestPolicy_DoesNotOverloadNewInstance(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, s := of(t, 3), servers{"a": time.Millisecond, "b": time.Millisecond, "c": time.Millisecond}
		s.serve(t, c, time.Second)
		for range 30 {
			start(t, c, unaryCall)
		}
		resolved(t, c, instances(4)...)
		counts := map[string]int{}
		for range 200 {
			who, _ := start(t, c, unaryCall)
			counts[who]++
		}
		// All would have (30+200)/4 = 57 if they were even.
		if counts["d"] < 50 || counts["d"] > 62 {
			t.Errorf("before its first answer the new one gets %d of 200 calls, want about 57", counts["d"])
		}
	})
}

package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func cycleOf(t *testing.T, weights ...int) []int {
	t.Helper()
	s := New(weights)
	if s.Cycle() == 0 {
		t.Fatalf("%v has no cycle", weights)
	}
	out := make([]int, s.Cycle())
	for k := range out {
		out[k] = s.At(uint32(k))
	}
	return out
}

func TestAt_Sequences(t *testing.T) {
	for _, c := range []struct{ weights, want []int }{
		{[]int{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0}},
		{[]int{50, 10, 10}, []int{0, 0, 1, 0, 2, 0, 0}},
		{[]int{3, 2, 1}, []int{0, 1, 0, 2, 1, 0}},
		{[]int{7, 7, 7}, []int{0, 1, 2}},
		{[]int{1}, []int{0}},
		{[]int{0, 9}, []int{1}},
		{[]int{2, 0, 1, 0}, []int{0, 2, 0}},
		{[]int{0, 0, 0}, []int{0, 1, 2}},
		{[]int{0}, []int{0}},
	} {
		if got := cycleOf(t, c.weights...); !slices.Equal(got, c.want) {
			t.Errorf("%v gives %v, want %v", c.weights, got, c.want)
		}
	}
}

func TestSchedule_CycleHasExactShares(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		weights := make([]int, 2+rnd.IntN(60))
		for i := range weights {
			weights[i] = rnd.IntN(16)
		}
		weights[0], weights[1] = 16, 17 // nothing divides all of them
		sum := sumOf(weights)
		s := New(weights)
		if s.Cycle() == 0 {
			t.Fatalf("%v has no cycle", weights)
		}
		counts := make([]int, len(weights))
		for k := range sum {
			counts[s.At(uint32(k))]++
		}
		if !slices.Equal(counts, weights) {
			t.Errorf("%v gives %v in %d picks", weights, counts, sum)
		}
	}
}

// spread returns the largest difference, over all choices and all runs of consecutive picks among the first n, between how
// often the choice was picked and its exact share.
func spread(weights []int, n int) float64 {
	s := New(weights)
	sum := sumOf(weights)
	picked := make([]int, len(weights))
	least, most := make([]float64, len(weights)), make([]float64, len(weights))
	for k := range n {
		i := s.At(uint32(k))
		share := float64(weights[i]) / float64(sum)
		// The lead of a choice over its share falls with every pick, and rises only when the choice is picked.
		least[i] = min(least[i], float64(picked[i])-share*float64(k))
		picked[i]++
		most[i] = max(most[i], float64(picked[i])-share*float64(k+1))
	}
	worst := 0.0
	for i, w := range weights {
		least[i] = min(least[i], float64(picked[i])-float64(w)/float64(sum)*float64(n))
		worst = max(worst, most[i]-least[i])
	}
	return worst
}

func TestSchedule_CycleIsSmooth(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		weights := make([]int, 2+rnd.IntN(30))
		for i := range weights {
			weights[i] = 1 + rnd.IntN(30)
		}
		cycle := New(weights).Cycle()
		if cycle == 0 {
			t.Fatalf("%v has no cycle", weights)
		}
		// In bursts it would be as much as a weight.
		if d := spread(weights, 2*cycle); d >= 2 {
			t.Errorf("%v: a choice is %.2f picks away from its share, want less than 2", weights, d)
		}
	}
}

func TestSchedule_IsSmoothWithoutCycle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ choices, weight int }{{3, 65535}, {10, 65535}, {100, 1000}, {1000, 65535}} {
		weights := make([]int, c.choices)
		for i := range weights {
			weights[i] = rnd.IntN(c.weight + 1)
		}
		weights[0], weights[len(weights)-1] = 65535, 0
		if n := New(weights).Cycle(); n != 0 {
			t.Errorf("%d choices have a cycle of %d", c.choices, n)
		}
		if d := spread(weights, 1_000_000); d >= 6 {
			t.Errorf("%d choices: one is %.2f picks away from its share in a million, want less than 6", c.choices, d)
		}
	}
}

func TestNew_WeightsFarApart(t *testing.T) {
	weights := slices.Repeat([]int{1}, 1000)
	weights[500] = 65535
	s := New(weights)
	if s.Cycle() != 0 {
		t.Fatal("it has a cycle")
	}
	counts := make([]int, len(weights))
	const n = 66_534 * 10
	for k := range uint32(n) {
		counts[s.At(k)]++
	}
	for i, c := range counts {
		want := 10 * weights[i]
		if c < want-6 || c > want+6 {
			t.Errorf("choice %d of weight %d is picked %d times in %d, want about %d", i, weights[i], c, n, want)
		}
	}
}

// The last point belongs to no choice: At would search beyond the last one.
func TestAt_NeverReachesLastPoint(t *testing.T) {
	const phi = uint64(0x9e3779b97f4a7c15)
	inverse := phi // Newton: each step doubles the number of low bits in which phi*inverse is 1
	for range 6 {
		inverse *= 2 - phi*inverse
	}
	if phi*inverse != 1 {
		t.Fatal("not the inverse")
	}
	if k := -inverse; k <= 1<<32-1 {
		t.Errorf("pick %d has it", k)
	}
}

func TestAt_EveryPointHasChoice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		weights := make([]int, 2+rnd.IntN(200))
		for i := range weights {
			weights[i] = rnd.IntN(3) * rnd.IntN(65536)
		}
		weights[rnd.IntN(len(weights))] = 65535
		weights[rnd.IntN(len(weights))] = 65534
		s := golden(weights, uint64(sumOf(weights)))
		for k := range uint32(20_000) {
			if i := s.At(k); weights[i] == 0 {
				t.Fatalf("%v: pick %d is a choice of weight 0", weights, k)
			}
		}
		for k := range uint32(1000) {
			if i := s.At(1<<32 - 1 - k); weights[i] == 0 {
				t.Fatalf("%v: pick %d from the end is a choice of weight 0", weights, k)
			}
		}
	}
}

func sumOf(weights []int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	return sum
}

func BenchmarkNew(b *testing.B) {
	for _, c := range []struct {
		name            string
		choices, weight int
	}{{"100 equal", 100, 1}, {"100 of 1 to 10", 100, 10}, {"100 of 1 to 65535", 100, 65535}, {"5000 of 1 to 100", 5000, 100}} {
		rnd := rand.New(rand.NewPCG(9, 10))
		weights := make([]int, c.choices)
		for i := range weights {
			weights[i] = 1 + rnd.IntN(c.weight)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				New(weights)
			}
		})
	}
}

func BenchmarkAt(b *testing.B) {
	for _, c := range []struct {
		name   string
		weight int
	}{{"cycle", 10}, {"golden", 65535}} {
		rnd := rand.New(rand.NewPCG(9, 10))
		weights := make([]int, 100)
		for i := range weights {
			weights[i] = 1 + rnd.IntN(c.weight)
		}
		s := New(weights)
		b.Run(c.name, func(b *testing.B) {
			k := uint32(0)
			for b.Loop() {
				s.At(k)
				k++
			}
		})
	}
}

func TestNew_ClampsWeights(t *testing.T) {
	const picks = 1 << 18
	for _, weights := range [][]int{{1 << 62, 1<<63 - 1, 1}, {1<<63 - 1, -1 << 63, 3}, {-1, -5}, {1 << 40, 1 << 41}} {
		s := New(weights)
		counts, sum := make([]int, len(weights)), 0
		for k := range uint32(picks) {
			counts[s.At(k)]++
		}
		for _, w := range weights {
			sum += Clamp(w)
		}
		for i, w := range weights {
			want := picks / len(weights) // of weights of which none is above 0
			if sum > 0 {
				want = picks * Clamp(w) / sum
			}
			if counts[i] < want-7 || counts[i] > want+7 {
				t.Errorf("of weights %v, choice %d gets %d of %d picks, want %d", weights, i, counts[i], picks, want)
			}
		}
	}
}

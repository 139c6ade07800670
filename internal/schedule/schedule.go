// Package schedule spreads picks over weighted choices, so that the picks of one choice are spread evenly.
package schedule

import "math/bits"

// Schedule is an endless sequence of indices. Each index has the share that its weight asks for. A Schedule does not change and is safe for
// concurrent use.
//
// If the weights are equal, or the number of choices times the sum of the weights (divided by their greatest common divisor) is at most
// 65,536, the sequence is a cycle. The cycle is as long as that sum, and has each index exactly as often as its weight says. It is the
// cycle of nginx's smooth weighted round-robin balancing (May 2012): weights 5, 1 and 1 give 0, 0, 1, 0, 2, 0, 0.
//
// Other weights would need a long cycle, which would have to be built again whenever a choice comes or goes. For these, each choice has a
// part of the unit interval as large as its share, and the k-th pick is the choice at k·φ modulo 1. φ is the golden ratio. No other
// number spreads the points so evenly for every number of points (Knuth, The Art of Computer Programming, volume 3, section 6.4: Fibonacci
// hashing). In a million picks each choice is within six picks of its exact share.
type Schedule struct {
	cycle []uint32

	// Without a cycle, choice i ends before end[i], in units of 2⁻⁶⁴, and guide[p>>shift] is the first choice that can contain point p.
	end   []uint64
	guide []uint32
	shift int
}

// work bounds the time for building a cycle to about 60 µs.
const work = 1 << 16

// MaxWeight is the largest weight that package registry allows.
const MaxWeight = 65535

// Clamp returns the weight from 0 to MaxWeight that is nearest to w. A registry may return any weight, and sums of them might overflow.
func Clamp(w int) int { return min(max(w, 0), MaxWeight) }

// New returns the schedule for the given weights, of which there must be at least one. It clamps them by [Clamp]. A choice with weight 0 is
// never picked, unless all have weight 0: then they are equal.
func New(given []int) *Schedule {
	weights := make([]int, len(given))
	for i, w := range given {
		weights[i] = Clamp(w)
	}
	divisor, sum := 0, 0
	equal := true
	for _, w := range weights {
		divisor = gcd(w, divisor)
		sum += w
		equal = equal && w == weights[0]
	}
	switch {
	case equal:
		return &Schedule{cycle: inTurn(len(weights))}
	case sum/divisor <= work/len(weights):
		return &Schedule{cycle: interleave(weights, sum, sum/divisor)}
	default:
		return golden(weights, uint64(sum))
	}
}

// At returns the k-th index. When k overflows to 0, the sequence is interrupted once.
func (s *Schedule) At(k uint32) int {
	if len(s.cycle) > 0 {
		return int(s.cycle[k%uint32(len(s.cycle))])
	}
	const phi = 0x9e3779b97f4a7c15 // the golden ratio modulo 1, in units of 2⁻⁶⁴
	p := uint64(k) * phi
	i := s.guide[p>>s.shift]
	for p >= s.end[i] {
		i++
	}
	return int(i)
}

// Cycle returns the number of picks after which the sequence repeats, or 0 if it does not repeat.
func (s *Schedule) Cycle() int { return len(s.cycle) }

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func inTurn(n int) []uint32 {
	cycle := make([]uint32, n)
	for i := range cycle {
		cycle[i] = uint32(i)
	}
	return cycle
}

// interleave adds its weight to the credit of each choice before every pick, picks the choice with the most credit, and subtracts the sum of
// all weights from it.
func interleave(weights []int, sum, length int) []uint32 {
	credit := make([]int, len(weights))
	cycle := make([]uint32, length)
	for k := range cycle {
		most := 0
		for i, w := range weights {
			credit[i] += w
			if credit[i] > credit[most] {
				most = i
			}
		}
		credit[most] -= sum
		cycle[k] = uint32(most)
	}
	return cycle
}

func golden(weights []int, sum uint64) *Schedule {
	s := &Schedule{end: make([]uint64, len(weights))}
	below, last := uint64(0), 0
	for i, w := range weights {
		if w > 0 {
			last = i
		}
		below += uint64(w)
		if below < sum {
			s.end[i], _ = bits.Div64(below, 0, sum)
		}
	}
	// The length 2⁶⁴ of the whole interval does not fit. So point 2⁶⁴-1 is left out, which k·phi does not reach with a k of 32 bits.
	for i := last; i < len(weights); i++ {
		s.end[i] = 1<<64 - 1
	}
	size := bits.Len(uint(len(weights)))
	s.shift = 64 - size
	s.guide = make([]uint32, 1<<size)
	i := 0
	for g := range s.guide {
		for uint64(g)<<s.shift >= s.end[i] {
			i++
		}
		s.guide[g] = uint32(i)
	}
	return s
}

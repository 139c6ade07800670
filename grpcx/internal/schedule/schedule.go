// Package schedule spreads picks over weighted choices, smoothly: those of one choice stand apart from one another.
package schedule

import "math/bits"

// Schedule is an endless sequence of indices in which each has the share that its weight asks for. It does not change and
// is safe for concurrent use.
//
// Where the weights are equal, or the number of choices times the sum of the weights (divided by what divides all of
// them) is at most 65,536, the sequence is a cycle as long as that sum, which holds each index exactly as often as its
// weight says. It is the one of nginx's smooth weighted round-robin balancing (May 2012): weights 5, 1 and 1 give 0, 0, 1, 0,
// 2, 0, 0.
//
// Anything else would need a long cycle, which would have to be made anew whenever a choice comes or goes. There the k-th
// pick is the choice at the place k·φ modulo 1, where φ is the golden ratio and each choice has a part of the unit
// interval as large as its share. No other number leaves the places so evenly spread, however many there are (Knuth, The
// Art of Computer Programming, volume 3, section 6.4: Fibonacci hashing). In a million picks no choice is more than six
// away from its exact share.
type Schedule struct {
	cycle []uint32

	// Without a cycle: choice i ends before place[i], in units of 2⁻⁶⁴, and guide[p>>shift] is the first one that can
	// have place p.
	place []uint64
	guide []uint32
	shift int
}

// work bounds what is spent on a cycle: about 60 µs.
const work = 1 << 16

// New returns the schedule of weights, of which there is at least one and none is negative. A choice of weight 0 is never
// picked, unless all have 0: then they are equal.
func New(weights []int) *Schedule {
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

// At returns the k-th index. Who counts k over all 32 bits sees the sequence break off once, where k starts again at 0.
func (s *Schedule) At(k uint32) int {
	if len(s.cycle) > 0 {
		return int(s.cycle[k%uint32(len(s.cycle))])
	}
	const phi = 0x9e3779b97f4a7c15 // the golden ratio modulo 1, in units of 2⁻⁶⁴
	p := uint64(k) * phi
	i := s.guide[p>>s.shift]
	for p >= s.place[i] {
		i++
	}
	return int(i)
}

// Cycle returns the number of picks after which the sequence repeats, and 0 where it does not.
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

// interleave credits each choice with its weight before every pick, and takes the sum of all from the one that is picked:
// the one with the most.
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
	s := &Schedule{place: make([]uint64, len(weights))}
	below, last := uint64(0), 0
	for i, w := range weights {
		if w > 0 {
			last = i
		}
		below += uint64(w)
		if below < sum {
			s.place[i], _ = bits.Div64(below, 0, sum)
		}
	}
	// The whole interval is 2⁶⁴ long, which does not fit. Place 2⁶⁴-1, which phi reaches at no k of 32 bits, is left out.
	for i := last; i < len(weights); i++ {
		s.place[i] = 1<<64 - 1
	}
	size := bits.Len(uint(len(weights)))
	s.shift = 64 - size
	s.guide = make([]uint32, 1<<size)
	i := 0
	for g := range s.guide {
		for uint64(g)<<s.shift >= s.place[i] {
			i++
		}
		s.guide[g] = uint32(i)
	}
	return s
}

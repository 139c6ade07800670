package schedule

import "math"

// Split divides picks between two groups, and spreads the picks of each group evenly. It does not change and is safe for concurrent use.
type Split struct {
	first uint64 // the share of the first group, in units of 2⁻³²
}

// NewSplit returns a Split that gives the first group share of the picks: from 0, which is none, to below 1.
func NewSplit(share float64) Split { return Split{first: uint64(math.Round(share * (1 << 32)))} }

// At returns whether a pick is for the first group, and its turn within its group. After n picks, the first group has had n times its share,
// rounded down. So a pick is for the first group if that number rises. The number is also the turn within the group, so the turns of each
// group follow one another.
func (s Split) At(turn uint32) (first bool, within uint32) {
	before := uint64(turn) * s.first
	turns := uint32(before >> 32)
	if uint32((before+s.first)>>32) != turns {
		return true, turns
	}
	return false, turn - turns
}

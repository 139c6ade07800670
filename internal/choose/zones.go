package choose

// Zones counts the instances that a client knows, by zone, without drained instances.
type Zones map[string]Count

// Count has the numbers of one zone.
type Count struct {
	Passing int
	Missing int // left out, since they do not pass
}

// Share returns the share of instances that pass in the zones that in selects. It is 1 if none was left out.
func (z Zones) Share(in func(zone string) bool) float64 {
	var sum Count
	for zone, c := range z {
		if in(zone) {
			sum.Passing += c.Passing
			sum.Missing += c.Missing
		}
	}
	if sum.Missing == 0 {
		return 1
	}
	return float64(sum.Passing) / float64(sum.Passing+sum.Missing)
}

// OwnShare returns the share of the calls for a client's own zone. own and other are the ready shares of the instances in that zone and in
// all other zones; below threshold, the own zone does not get all calls: see the doc of package grpcx/zone. It is NaN if own and other are 0.
func OwnShare(own, other, threshold float64) float64 {
	a, b := min(1, own/threshold), min(1, other/threshold)
	return a / min(1, a+b)
}

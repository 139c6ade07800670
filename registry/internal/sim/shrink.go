package sim

import "slices"

// Shrink returns a history with fewer steps that still fails. It asks fails about each candidate, most times as given at most.
func Shrink(h History, most int, fails func(History) bool) History {
	for size := max(1, len(h.Steps)/2); size > 0 && most > 0; {
		shrunk := false
		for i := 0; i < len(h.Steps) && most > 0; {
			candidate := h
			candidate.Steps = slices.Delete(slices.Clone(h.Steps), i, min(i+size, len(h.Steps)))
			most--
			if fails(candidate) {
				h, shrunk = candidate, true
			} else {
				i += size
			}
		}
		if !shrunk || size > 1 {
			size /= 2
		}
	}
	return h
}

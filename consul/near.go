package consul

import "github.com/rollcall-go/rollcall/registry"

// nearest cuts set, which is in the order of distance, to Config.Limit. Only instances that the query selects, and that pass, count: the limit
// is for instances that can be used.
func (s *source) nearest(set []*registry.Instance) []*registry.Instance {
	limit := s.d.settings.Limit
	if limit == 0 {
		return set
	}
	cut := make([]*registry.Instance, 0, min(limit, len(set))) // set is the memory of the last answer
	usable := 0
	for _, in := range set {
		if usable == limit {
			break
		}
		if !s.query.Matches(in) {
			continue
		}
		cut = append(cut, in)
		if in.Status == registry.Passing {
			usable++
		}
	}
	return cut
}

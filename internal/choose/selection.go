package choose

import (
	"cmp"
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/internal/delta"
	"github.com/rollcall-go/rollcall/registry"
)

// Selection has the instances of a set that calls go to.
type Selection struct {
	Use          []*registry.Instance   // sorted by ID
	Passing      int                    // number of passing instances
	Drained      int                    // number of instances that are left out or restricted, since they are drained or in maintenance
	Panicking    bool                   // Use has instances that do not pass
	Zones        Zones                  // set if instances are left out because they do not pass
	Restrictions map[string]Restriction // by address, of some instances in Use
}

// Selector selects the instances for one client. It is not safe for concurrent use.
type Selector struct {
	*Rules
	Guarded bool                 // the client heeds restrictions, so it can get drained instances
	plain   []*registry.Instance // the previous set, if all its instances passed and had a weight
}

// Choose selects the instances of set, which the client has watched, that calls go to. The registry does not list the instances in withheld,
// or does not list them as passing.
func (t *Selector) Choose(set []*registry.Instance, withheld []string) Selection {
	if delta.AllNew(t.plain, set, isPlain) {
		t.plain = set
		return t.restrict(Selection{Use: set, Passing: len(set)}, nil, withheld)
	}
	t.plain = nil
	if t.Query.AnyStatus && !t.WatchesAll { // the caller wants instances of any status
		return t.restrict(Selection{Use: set, Passing: len(set)}, nil, withheld)
	}
	s, weighted, drained := t.split(set)
	if s.Passing == 0 && len(drained) > 0 { // a passing instance without a weight comes before instances that do not pass
		return t.restrict(Selection{Use: drained, Passing: len(drained), Drained: s.Drained}, nil, withheld)
	}
	s.Panicking = float64(s.Passing) < t.PanicThreshold*float64(len(weighted))
	s.Use = weighted
	if !s.Panicking && s.Passing < len(weighted) {
		s.Use, s.Zones = onlyPassing(weighted, s.Passing)
	}
	if !t.Guarded {
		drained = nil // a policy that does not heed restrictions would call them
	}
	return t.restrict(s, drained, withheld)
}

// split counts the instances of set. It returns the instances with a weight, of any status, and the drained instances that pass.
func (t *Selector) split(set []*registry.Instance) (s Selection, weighted, drained []*registry.Instance) {
	anyWeight := slices.ContainsFunc(set, func(in *registry.Instance) bool { return in.Weight > 0 })
	weighted = make([]*registry.Instance, 0, len(set))
	for _, in := range set {
		switch {
		case in.Status == registry.Maintenance:
			s.Drained++
			continue
		case in.Weight <= 0 && anyWeight: // if no instance has a weight, weights mean nothing
			s.Drained++
			if in.Status == registry.Passing {
				drained = append(drained, in)
			}
			continue
		case in.Status == registry.Passing:
			s.Passing++
		}
		weighted = append(weighted, in)
	}
	return s, weighted, drained
}

// onlyPassing returns the n instances of set that pass, and counts all instances by zone.
func onlyPassing(set []*registry.Instance, n int) ([]*registry.Instance, Zones) {
	use, zones := make([]*registry.Instance, 0, n), Zones{}
	for _, in := range set {
		count := zones[in.Zone]
		if in.Status == registry.Passing {
			use = append(use, in)
			count.Passing++
		} else {
			count.Missing++
		}
		zones[in.Zone] = count
	}
	return use, zones
}

// restrict limits s.Use to instances that the client can dial and to its subset. It adds drained and spare instances in the order of the
// set, and tells a guarded policy which instances it must not use like the others.
func (t *Selector) restrict(s Selection, drained []*registry.Instance, withheld []string) Selection {
	candidates := s.Use
	s.Use, drained = t.limit(s.Use), t.limit(drained)
	if !s.Panicking && len(drained) == 0 && len(withheld) == 0 {
		return s
	}
	isWithheld := make(map[string]bool, len(withheld))
	for _, id := range withheld {
		isWithheld[id] = true
	}
	restriction := func(in *registry.Instance) Restriction {
		switch {
		case isWithheld[in.ID]:
			return Withheld
		case s.Panicking && in.Status != registry.Passing:
			return Failing
		}
		return None
	}
	s.Restrictions = map[string]Restriction{}
	unrestricted := map[string]bool{} // by address
	for _, in := range s.Use {
		address := t.AddressOf(in)
		s.Restrictions[address] = restriction(in)
		if s.Restrictions[address] == None {
			unrestricted[address] = true
		}
	}
	for _, in := range drained {
		address := t.AddressOf(in)
		switch {
		case isWithheld[in.ID]:
			s.Restrictions[address] = Withheld
		case s.Restrictions[address] == None:
			s.Restrictions[address] = Drained
		}
	}
	added := drained
	if t.Subset > 0 && len(unrestricted) == 0 {
		// All instances that pass are outside of the client's subset, and all instances in the subset may be lost.
		spare := t.limit(slices.DeleteFunc(slices.Clone(candidates), func(in *registry.Instance) bool { return restriction(in) != None }))
		for _, in := range spare {
			s.Restrictions[t.AddressOf(in)] = Spare
		}
		added = slices.Concat(drained, spare)
	}
	if len(added) > 0 {
		s.Use = slices.Concat(s.Use, added)
		slices.SortStableFunc(s.Use, func(a, b *registry.Instance) int { return cmp.Compare(a.ID, b.ID) })
	}
	// Two instances with one address are one server, such as a server that crashed and has come back with another ID.
	maps.DeleteFunc(s.Restrictions, func(address string, _ Restriction) bool { return unrestricted[address] })
	return s
}

// isPlain reports whether neither the status nor the weight of in keeps calls from it.
func isPlain(in *registry.Instance) bool { return in.Status == registry.Passing && in.Weight > 0 }

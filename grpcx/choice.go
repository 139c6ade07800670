package grpcx

import (
	"github.com/rollcall-go/rollcall/grpcx/internal/passing"
	"github.com/rollcall-go/rollcall/internal/delta"
	"github.com/rollcall-go/rollcall/registry"
)

// choice is which instances of a set calls go to.
type choice struct {
	use      []*registry.Instance
	passing  int
	draining int           // left out since they get no new calls
	panics   bool          // use holds instances that are not passing
	zones    passing.Zones // set where instances are left out since they do not pass
}

// chooser chooses for one channel.
type chooser struct {
	*target
	plain []*registry.Instance // the set before, where each of it passed and had a weight
}

// choose picks those of set, which a channel asked for, that calls go to.
func (t *chooser) choose(set []*registry.Instance) choice {
	if delta.AllNew(t.plain, set, isPlain) {
		t.plain = set
		return t.limited(choice{use: set, passing: len(set)})
	}
	t.plain = nil
	var c choice
	if t.query.AnyStatus && !t.all {
		c.use, c.passing = set, len(set) // the caller wants them whatever they say of themselves
		return t.limited(c)
	}
	weighed := false
	for _, in := range set {
		weighed = weighed || in.Weight > 0
	}
	rest := make([]*registry.Instance, 0, len(set))
	for _, in := range set {
		switch {
		case in.Status == registry.Maintenance, in.Weight == 0 && weighed: // where nobody has a weight, it says nothing
			c.draining++
			continue
		case in.Status == registry.Passing:
			c.passing++
		}
		rest = append(rest, in)
	}
	c.panics = float64(c.passing) < t.config.PanicThreshold*float64(len(rest))
	c.use = rest
	if !c.panics && c.passing < len(rest) {
		c.use = make([]*registry.Instance, 0, c.passing)
		c.zones = passing.Zones{}
		for _, in := range rest {
			n := c.zones[in.Zone]
			if in.Status == registry.Passing {
				c.use = append(c.use, in)
				n.Passing++
			} else {
				n.Missing++
			}
			c.zones[in.Zone] = n
		}
	}
	return t.limited(c)
}

// isPlain reports whether nothing that in says of itself keeps calls from it.
func isPlain(in *registry.Instance) bool { return in.Status == registry.Passing && in.Weight > 0 }

// limited leaves out what cannot be dialled, and what is not in the channel's subset.
func (t *target) limited(c choice) choice {
	if t.endpoint != "" {
		with := make([]*registry.Instance, 0, len(c.use))
		for _, in := range c.use {
			if in.Endpoints[t.endpoint] != "" {
				with = append(with, in)
			}
		}
		c.use = with
	}
	c.use = subset(c.use, t.config.Subset, t.config.ClientID)
	return c
}

// addressOf is what the channel dials to reach in.
func (t *target) addressOf(in *registry.Instance) string {
	if t.endpoint == "" {
		return in.Address
	}
	return in.Endpoints[t.endpoint]
}

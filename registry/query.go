package registry

import (
	"encoding/json"
	"maps"
	"slices"
)

// Query selects instances of one service. The zero value of each field but Service selects all.
type Query struct {
	Service   string            `json:"service"`              // required; compared to the letter, case included
	Tags      []string          `json:"tags,omitempty"`       // all must be present, in any order
	Version   string            `json:"version,omitempty"`    // exact, where set
	Metadata  map[string]string `json:"metadata,omitempty"`   // all pairs must be present
	AnyStatus bool              `json:"any_status,omitempty"` // also instances that are not passing
}

// Matches reports whether q selects in.
func (q Query) Matches(in *Instance) bool {
	if in.Service != q.Service || (q.Version != "" && in.Version != q.Version) || (!q.AnyStatus && in.Status != Passing) {
		return false
	}
	for _, t := range q.Tags {
		if !slices.Contains(in.Tags, t) {
			return false
		}
	}
	for k, v := range q.Metadata {
		if got, ok := in.Metadata[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// normal returns q with its tags sorted and without repetitions, and shares nothing with it: two queries that select
// the same by their tags and metadata have one normal form.
func (q Query) normal() Query {
	q.Tags = slices.Compact(slices.Sorted(slices.Values(q.Tags)))
	q.Metadata = maps.Clone(q.Metadata)
	return q
}

// wide is what a feed follows for q: the status is its readers' matter.
func (q Query) wide() Query {
	q.AnyStatus = true
	return q
}

// key is equal for queries that have one normal form, and for no others.
func (q Query) key() string {
	b, err := json.Marshal(q.normal())
	if err != nil {
		panic(err) // strings and a bool always marshal
	}
	return string(b)
}

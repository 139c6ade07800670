package registry

import (
	"encoding/json"
	"maps"
	"slices"
)

// Query selects instances of one service. The zero value of each field but Service selects all.
type Query struct {
	Service   string            `json:"service"`              // required; case counts
	Tags      []string          `json:"tags,omitempty"`       // all must be present, in any order
	Version   string            `json:"version,omitempty"`    // exact, if set
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

// wide returns the query that the feed for q watches: its readers select by status.
func (q Query) wide() Query {
	q.AnyStatus = true
	return q
}

// key returns the same text for queries with the same normal form, and different texts for others.
func (q Query) key() string {
	b, err := json.Marshal(q.normal())
	if err != nil {
		panic(err) // strings and a bool always marshal
	}
	return string(b)
}

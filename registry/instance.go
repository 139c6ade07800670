package registry

import (
	"cmp"
	"maps"
	"slices"
)

// Instance is one running copy of a service, as it is registered and found.
//
// Its JSON form is stable. Members have the names below, status is a word, and the weight of a drained instance is -1. A field
// with its zero value is left out, except service and address. Readers ignore unknown members, so that later versions may add
// some.
//
// The instances that a [Discovery] returns are shared by all its callers and never change. Use [Instance.Clone] to change one.
type Instance struct {
	// ID is unique within the service. Register fills an empty one with service-host-port. See [Instance.Validate]
	// for the characters that are allowed.
	ID string `json:"id,omitempty"`
	// Service is the name that clients ask for. Required.
	Service string `json:"service"`
	// Address is the host:port that clients dial. Required. An IPv6 host is written in brackets.
	Address string `json:"address"`
	// Endpoints are further listeners by protocol name, such as "http": "10.0.0.7:8080".
	Endpoints map[string]string `json:"endpoints,omitempty"`
	// Version is the version of the service that this instance runs, in the service's own notation.
	Version string `json:"version,omitempty"`
	// Zone is where the instance runs, such as an availability zone.
	Zone string `json:"zone,omitempty"`
	// Tags are labels that a [Query] selects by. Their order is kept.
	Tags []string `json:"tags,omitempty"`
	// Metadata is for the application; a [Query] selects by it too.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Weight is the share of calls relative to the instance's peers, up to 65535, or [Drained]. Register and Update take 0 as 1.
	// A backend returns Drained for every entry whose stored weight is 0 or less, so that registering an instance that was
	// looked up does not undrain it.
	Weight int `json:"weight,omitempty"`
	// Status tells whether clients should use the instance.
	Status Status `json:"status,omitzero"`
}

// Drained is the Weight of an instance that gets no calls while an instance with a weight above 0 can serve. If no instance of a
// set has such a weight, weights are ignored.
const Drained = -1

// Clone returns a deep copy of in. It is nil for nil.
func (in *Instance) Clone() *Instance {
	if in == nil {
		return nil
	}
	c := *in
	c.Endpoints = maps.Clone(in.Endpoints)
	c.Tags = slices.Clone(in.Tags)
	c.Metadata = maps.Clone(in.Metadata)
	return &c
}

// Equal reports whether in and other have the same content. A nil map or slice equals an empty one; the order of tags
// counts.
func (in *Instance) Equal(other *Instance) bool {
	if in == other {
		return true
	}
	if in == nil || other == nil {
		return false
	}
	return in.ID == other.ID && in.Service == other.Service && in.Address == other.Address &&
		in.Version == other.Version && in.Zone == other.Zone && in.Weight == other.Weight &&
		in.Status == other.Status && slices.Equal(in.Tags, other.Tags) &&
		maps.Equal(in.Endpoints, other.Endpoints) && maps.Equal(in.Metadata, other.Metadata)
}

// compareInstances is the order of every set: by ID, and by address if a store has one ID twice, as Consul has
// if two of its agents have it.
func compareInstances(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Address, b.Address))
}

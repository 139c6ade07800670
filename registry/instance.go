package registry

import (
	"cmp"
	"maps"
	"slices"
)

// Instance is one running copy of a service, as it is announced and found.
//
// Its JSON form is stable: the field names below, status as a word, and every field but service and address left out
// where it holds its zero value. A reader ignores members that it does not know, so that a later version may add some.
//
// Instances that a [Discovery] hands out are shared between all that asked, and are never changed again: use
// [Instance.Clone] before changing one.
type Instance struct {
	// ID is unique within the service. Register fills an empty one with service-host-port. See [Instance.Validate]
	// for the characters that are allowed.
	ID string `json:"id,omitempty"`
	// Service is the name that clients ask for. Required.
	Service string `json:"service"`
	// Address is the host:port that clients dial. Required; an IPv6 host stands in brackets.
	Address string `json:"address"`
	// Endpoints holds further listeners by protocol name, such as "http": "10.0.0.7:8080".
	Endpoints map[string]string `json:"endpoints,omitempty"`
	// Version is the version of the service that this instance runs, in the service's own notation.
	Version string `json:"version,omitempty"`
	// Zone is where the instance runs, such as an availability zone.
	Zone string `json:"zone,omitempty"`
	// Tags are labels that a [Query] selects by. Their order is kept.
	Tags []string `json:"tags,omitempty"`
	// Metadata is for the application; a [Query] selects by it too.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Weight is the share of traffic relative to the instance's peers, up to 65535. In an announcement 0 means 1 and is
	// announced as 1; in a set that Discovery returns, 0 comes from another writer and means no new traffic.
	Weight int `json:"weight,omitempty"`
	// Status tells whether clients should use the instance.
	Status Status `json:"status,omitzero"`
}

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

// Equal reports whether in and other announce the same. A nil map or slice equals an empty one; the order of tags
// counts. It changes neither.
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

// compareInstances is the order of every set: by ID, and by address where a store holds one ID twice, as Consul does
// when two of its agents have it.
func compareInstances(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Address, b.Address))
}

package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// Snapshot is what a [Registry] watches and has registered at one moment. Its JSON form has the names of the fields in lower case
// with underscores, errors as text, and leaves zero fields out.
type Snapshot struct {
	// Registry is the name of the backend and its store: see [Registry.String].
	Registry string
	Time     time.Time
	// Watches are the open watches, sorted by query. All watches and lookups of one query are one, also if they ask for different statuses.
	Watches []WatchState
	// Registrations were returned by Register and are not deregistered. They are sorted by service and ID.
	Registrations []RegistrationState
}

// WatchState is one open watch of a [Registry], which all readers of a query share.
type WatchState struct {
	// Query is what the watch asks for. Its AnyStatus is true, because readers select by status.
	Query Query
	// Readers is the number of loops over Watch, and of Lookups in progress. A watch without a reader stays open for [Options.Linger].
	Readers int
	// Instances is the set that readers get, of any status, sorted by ID. The slice is the caller's, the instances are shared.
	Instances []*Instance
	// Known tells an empty set, which the registry has confirmed, from no set yet.
	Known bool
	// Origin tells the source of Instances.
	Origin Origin
	// Withheld says that a suspect set is withheld for a grace period, so Instances are not what the registry says.
	Withheld bool
	// Err says why Instances may be out of date. It is nil if they are current.
	Err error
	// StaleSince is the time from which on Instances may be out of date: see [StaleError.Since]. It is zero if they are current.
	StaleSince time.Time
	// ChangedAt is when Instances changed last. It is zero if they never did.
	ChangedAt time.Time
	// Reads is how many answers there were, Failures how many attempts failed, and Changes how often Instances changed.
	Reads, Failures, Changes uint64
	// Unreadable are the entries of the service that could not be read. They must not be changed.
	Unreadable []Unreadable
}

// RegistrationState is one registered instance of a [Registry].
type RegistrationState struct {
	// Instance is the wanted content. Its maps and slices are the caller's own.
	Instance Instance
	// Err is what [Registration.Err] returns: nil while the registry has the instance.
	Err error
	// Since is when the entry was last registered, lost or replaced.
	Since time.Time
	// Losses is how often the entry was lost or replaced.
	Losses uint64
}

// Snapshot returns what r watches and has registered. It sends no request, and blocks for a moment at most: it locks each watch and
// registration once. After Close there are no watches.
func (r *Registry) Snapshot() Snapshot {
	s := Snapshot{Registry: r.String(), Time: time.Now()}
	r.mu.Lock()
	var feeds []*feed
	if r.ctx.Err() == nil { // Close has not ended the watches
		for _, f := range r.feeds {
			feeds = append(feeds, f)
			s.Watches = append(s.Watches, WatchState{Query: f.query, Readers: f.readers})
		}
	}
	registrations := make([]*registration, 0, len(r.registrations))
	for g := range r.registrations {
		registrations = append(registrations, g)
	}
	r.mu.Unlock()
	for i, f := range feeds {
		f.describe(&s.Watches[i])
	}
	for _, g := range registrations {
		s.Registrations = append(s.Registrations, g.describe())
	}
	slices.SortFunc(s.Watches, func(a, b WatchState) int {
		return cmp.Or(cmp.Compare(a.Query.Service, b.Query.Service), cmp.Compare(a.Query.key(), b.Query.key()))
	})
	slices.SortFunc(s.Registrations, func(a, b RegistrationState) int {
		return cmp.Or(cmp.Compare(a.Instance.Service, b.Instance.Service), cmp.Compare(a.Instance.ID, b.Instance.ID))
	})
	return s
}

// watchCounts are the numbers of a feed for Snapshot. The feed's mutex guards them.
type watchCounts struct {
	reads, failures, changes uint64
	changedAt                time.Time
	failingSince             time.Time    // when the state got its error; of no meaning without an error
	unreadable               []Unreadable // the unreadable entries of the newest answer
}

// describe fills in the state of f.
func (f *feed) describe(w *WatchState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := &f.state
	w.Instances, w.Known, w.Origin = slices.Clone(st.all.set), st.known, st.origin
	w.Withheld = f.shrink.grace != nil || len(st.withheld) > 0
	w.Err, w.StaleSince = st.err, st.since
	n := &f.counts
	w.ChangedAt, w.Reads, w.Failures, w.Changes, w.Unreadable = n.changedAt, n.reads, n.failures, n.changes, n.unreadable
}

// describe returns the state of g.
func (g *registration) describe() RegistrationState {
	err := g.Err()
	g.mu.Lock()
	defer g.mu.Unlock()
	return RegistrationState{Instance: *g.newest().content.Clone(), Err: err, Since: g.since, Losses: g.losses}
}

// MarshalJSON implements [json.Marshaler].
func (s Snapshot) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Registry      string              `json:"registry"`
		Time          time.Time           `json:"time"`
		Watches       []WatchState        `json:"watches"`
		Registrations []RegistrationState `json:"registrations"`
	}{s.Registry, s.Time, notNull(s.Watches), notNull(s.Registrations)})
}

// notNull returns an empty slice for nil: JSON then has [] and not null.
func notNull[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// MarshalJSON implements [json.Marshaler].
func (w WatchState) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Query      Query            `json:"query"`
		Readers    int              `json:"readers"`
		Instances  []*Instance      `json:"instances"`
		Known      bool             `json:"known"`
		Origin     Origin           `json:"origin"`
		Withheld   bool             `json:"withheld,omitempty"`
		Error      string           `json:"error,omitempty"`
		StaleSince time.Time        `json:"stale_since,omitzero"`
		ChangedAt  time.Time        `json:"changed_at,omitzero"`
		Reads      uint64           `json:"reads"`
		Failures   uint64           `json:"failures"`
		Changes    uint64           `json:"changes"`
		Unreadable []unreadableJSON `json:"unreadable,omitempty"`
	}{w.Query, w.Readers, notNull(w.Instances), w.Known, w.Origin, w.Withheld, errorText(w.Err), w.StaleSince, w.ChangedAt,
		w.Reads, w.Failures, w.Changes, unreadableAsJSON(w.Unreadable)})
}

type unreadableJSON struct {
	Entry string `json:"entry"`
	Error string `json:"error"`
}

func unreadableAsJSON(all []Unreadable) []unreadableJSON {
	var list []unreadableJSON
	for _, u := range all {
		list = append(list, unreadableJSON{u.Entry, errorText(u.Err)})
	}
	return list
}

// MarshalJSON implements [json.Marshaler].
func (s RegistrationState) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Instance Instance  `json:"instance"`
		Error    string    `json:"error,omitempty"`
		Since    time.Time `json:"since"`
		Losses   uint64    `json:"losses"`
	}{s.Instance, errorText(s.Err), s.Since, s.Losses})
}

package statuspage

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	// maxRows is how many instances of a watch, and how many registrations of a registry, are shown.
	maxRows = 200
	clock   = "2006-01-02 15:04:05 MST"
)

// view is what the page shows.
type view struct {
	Time       time.Time
	Level      level // of the worst problem
	Summary    []problem
	Well       string // what is well, if nothing is wrong
	Registries []registryView
	Clients    clientsView // of no registry that is on the page
}

type registryView struct {
	Anchor        string
	Name          string
	Now           time.Time
	Registrations []registrationView
	More          int // registrations that are not shown
	Total         int // of the registrations
	Watches       []watchView
	Clients       clientsView
	Changes       []change
}

type registrationView struct {
	Anchor   string
	State    state
	Instance registry.Instance
	Metadata []string
	Losses   uint64
}

type watchView struct {
	Anchor     string
	State      state
	Watch      registry.WatchState
	Query      []string // the conditions beside the service
	Passing    int
	Bar        []barPart
	Counts     []countList
	Rows       []instanceView
	More       int // instances that are not shown
	OfMore     string
	HasMeta    bool
	Unreadable []registry.Unreadable
	MoreErrors int // unreadable entries that are not shown
}

type instanceView struct {
	*registry.Instance
	Level     level
	Metadata  []string
	Endpoints []string
}

// barPart is a part of the bar that shows the instances by status, in thousandths.
type barPart struct {
	Level    level
	X, Width float64
}

// countList has how many instances have each value of one property.
type countList struct {
	Of     string
	Values []valueCount
}

type valueCount struct {
	Level level
	Value string
	N     int
}

func (h *handler) view() view {
	v := view{Level: good, Time: time.Now()}
	var found findings
	byRegistry := h.clientsByRegistry()
	for i, s := range h.snapshots() {
		r := h.registryView(i, s, &found)
		r.Clients = h.clientsView(i, byRegistry[i], v.Time, &found)
		v.Registries = append(v.Registries, r)
	}
	v.Clients = h.clientsView(elsewhere, byRegistry[elsewhere], v.Time, &found)
	v.Summary = found.problems(v.Time)
	for _, p := range v.Summary {
		if p.Level.severity() > v.Level.severity() {
			v.Level = p.Level
		}
	}
	if len(v.Summary) == 0 {
		v.Well = found.well()
	}
	return v
}

func (h *handler) registryView(i int, s registry.Snapshot, found *findings) registryView {
	v := registryView{Anchor: fmt.Sprintf("registry-%d", i), Name: s.Registry, Now: s.Time, Changes: h.registries[i].newest(),
		Total: len(s.Registrations)}
	for _, g := range s.Registrations {
		r := registrationView{Anchor: h.anchor(i, "registration", g.Instance.Service, g.Instance.ID), State: registrationState(g),
			Instance: g.Instance, Metadata: pairs(g.Instance.Metadata), Losses: g.Losses}
		found.add("registration", g.Instance.Service+"/"+g.Instance.ID, r.State, r.Anchor)
		v.Registrations = append(v.Registrations, r)
	}
	for _, w := range s.Watches {
		p := h.watchView(i, w)
		found.add("watch", w.Query.Service, p.State, p.Anchor)
		v.Watches = append(v.Watches, p)
	}
	slices.SortStableFunc(v.Registrations, func(a, b registrationView) int {
		return b.State.Level.severity() - a.State.Level.severity()
	})
	slices.SortStableFunc(v.Watches, func(a, b watchView) int { return b.State.Level.severity() - a.State.Level.severity() })
	v.More = max(0, len(v.Registrations)-maxRows)
	v.Registrations = v.Registrations[:len(v.Registrations)-v.More]
	return v
}

// anchor returns a short text that names a part of the page for as long as h exists.
func (h *handler) anchor(registry int, kind string, names ...string) string {
	return fmt.Sprintf("%s-%d-%x", kind, registry, maphash.String(h.seed, fmt.Sprintf("%q", names)))
}

func (h *handler) watchView(i int, w registry.WatchState) watchView {
	q := w.Query
	v := watchView{
		Anchor: h.anchor(i, "watch", q.Service, q.Version, fmt.Sprintf("%q %q", q.Tags, pairs(q.Metadata))),
		Watch:  w, Query: conditions(q), Unreadable: w.Unreadable,
	}
	v.MoreErrors = max(0, len(v.Unreadable)-maxRows)
	v.Unreadable = v.Unreadable[:len(v.Unreadable)-v.MoreErrors]
	v.count(w.Instances)
	v.State = watchState(w, v.Passing)
	if n := len(w.Unreadable); n > 0 {
		v.State.Why += fmt.Sprintf(" %s cannot be read.", count(n, "entry"))
		if v.State.Level == good {
			v.State.Level, v.State.Word = warn, "partly unreadable"
		}
	}
	v.addRows(w.Instances)
	return v
}

func conditions(q registry.Query) []string {
	var all []string
	if q.Version != "" {
		all = append(all, "version "+q.Version)
	}
	for _, t := range q.Tags {
		all = append(all, "tag "+t)
	}
	for _, p := range pairs(q.Metadata) {
		all = append(all, "metadata "+p)
	}
	return all
}

func pairs(m map[string]string) []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return all
}

// statuses are in the order in which rows are shown.
var statuses = []registry.Status{registry.Critical, registry.Warning, registry.Maintenance, registry.Passing}

func statusRank(s registry.Status) int {
	return slices.Index(statuses, s) // of an unknown status -1: first
}

func statusLevel(s registry.Status) level {
	switch s {
	case registry.Passing:
		return good
	case registry.Warning:
		return warn
	case registry.Maintenance:
		return neutral
	}
	return bad
}

// count counts all instances, also those without a row.
func (v *watchView) count(all []*registry.Instance) {
	status := map[registry.Status]int{}
	versions, zones, weights := map[string]int{}, map[string]int{}, map[int]int{}
	for _, in := range all {
		status[in.Status]++
		versions[cmp.Or(in.Version, "none")]++
		zones[cmp.Or(in.Zone, "none")]++
		weights[in.Weight]++
	}
	v.Passing = status[registry.Passing]
	if len(all) == 0 {
		return
	}
	byStatus := countList{Of: "Status"}
	x := 0.0
	for _, s := range slices.SortedFunc(maps.Keys(status), func(a, b registry.Status) int {
		return cmp.Or(statusRank(b)-statusRank(a), int(a-b))
	}) {
		byStatus.Values = append(byStatus.Values, valueCount{statusLevel(s), s.String(), status[s]})
		width := 1000 * float64(status[s]) / float64(len(all))
		v.Bar = append(v.Bar, barPart{statusLevel(s), x, width})
		x += width
	}
	v.Counts = []countList{byStatus, {"Version", largestFirst(versions)}, {"Zone", largestFirst(zones)}, {"Weight", weightCounts(weights)}}
}

func largestFirst(m map[string]int) []valueCount {
	var all []valueCount
	for value, n := range m {
		all = append(all, valueCount{neutral, value, n})
	}
	slices.SortFunc(all, func(a, b valueCount) int { return cmp.Or(b.N-a.N, cmp.Compare(a.Value, b.Value)) })
	return all
}

func weightCounts(m map[int]int) []valueCount {
	var all []valueCount
	for _, weight := range slices.Sorted(maps.Keys(m)) {
		all = append(all, valueCount{neutral, weightText(weight), m[weight]})
	}
	return all
}

func weightText(weight int) string {
	if weight == registry.Drained {
		return "drained"
	}
	return fmt.Sprint(weight)
}

// addRows adds the rows. Instances that do not pass come first.
func (v *watchView) addRows(all []*registry.Instance) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *registry.Instance) int { return statusRank(a.Status) - statusRank(b.Status) })
	v.More = max(0, len(sorted)-maxRows)
	for _, in := range sorted[:len(sorted)-v.More] {
		row := instanceView{Instance: in, Level: statusLevel(in.Status), Metadata: pairs(in.Metadata)}
		for _, name := range slices.Sorted(maps.Keys(in.Endpoints)) {
			row.Endpoints = append(row.Endpoints, name+" "+in.Endpoints[name])
		}
		v.HasMeta = v.HasMeta || len(row.Metadata) > 0
		v.Rows = append(v.Rows, row)
	}
	hidden := 0
	for _, in := range sorted[len(sorted)-v.More:] {
		if in.Status != registry.Passing {
			hidden++
		}
	}
	v.OfMore = "all of them pass"
	if hidden > 0 {
		v.OfMore = fmt.Sprintf("%s of them %s not passing", grouped(hidden), be(hidden))
	}
}

// problem is one part of the summary: things of one kind in one state.
type problem struct {
	Level  level
	Text   string
	Of     string // the names of the first ones
	Anchor string // the first of them
}

// findings collects the states of all registries.
type findings struct {
	totals map[string]int // by kind
	states []finding
}

type finding struct {
	kind, word string
	level      level
	n          int
	since      time.Time // the earliest
	anchor     string
	names      []string
}

// maxNames is how many things a part of the summary names.
const maxNames = 2

func (f *findings) add(kind, name string, s state, anchor string) {
	if f.totals == nil {
		f.totals = map[string]int{}
	}
	f.totals[kind]++
	if s.Level.severity() == 0 {
		return
	}
	i := slices.IndexFunc(f.states, func(other finding) bool {
		return other.kind == kind && other.word == s.Word && other.level == s.Level
	})
	if i < 0 {
		f.states = append(f.states, finding{kind, s.Word, s.Level, 1, s.Since, anchor, []string{name}})
		return
	}
	e := &f.states[i]
	e.n++
	if len(e.names) < maxNames {
		e.names = append(e.names, name)
	}
	if !s.Since.IsZero() && (e.since.IsZero() || s.Since.Before(e.since)) {
		e.since = s.Since
	}
}

// problems returns the summary, the worst first.
func (f *findings) problems(now time.Time) []problem {
	slices.SortStableFunc(f.states, func(a, b finding) int { return b.level.severity() - a.level.severity() })
	var all []problem
	for _, s := range f.states {
		text := fmt.Sprintf("%s of %s %s", grouped(s.n), count(f.totals[s.kind], s.kind), s.word)
		if !s.since.IsZero() {
			text += " for " + duration(now.Sub(s.since))
		}
		of := strings.Join(s.names, ", ")
		if more := s.n - len(s.names); more > 0 {
			of += fmt.Sprintf(" and %s more", grouped(more))
		}
		all = append(all, problem{s.level, text, of, s.anchor})
	}
	return all
}

// well says that nothing is wrong.
func (f *findings) well() string {
	var parts []string
	if n := f.totals["registration"]; n > 0 {
		parts = append(parts, count(n, "registration"))
	}
	if n := f.totals["watch"]; n > 0 {
		parts = append(parts, count(n, "watch"))
	}
	if n := f.totals["client"]; n > 0 {
		parts = append(parts, count(n, "client"))
	}
	switch n := len(parts); n {
	case 0:
		return "Nothing is registered or watched"
	case 1:
		return "All is well: " + parts[0]
	default:
		return "All is well: " + strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
}

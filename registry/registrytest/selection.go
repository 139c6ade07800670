package registrytest

import (
	"fmt"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

var selection = []promise{
	{
		name:  "select by tags",
		why:   "A query selects the instances that have all of its tags, in any order; one whose tags change joins or leaves.",
		check: selectByTags,
	},
	{
		name:  "select by version",
		why:   "A query with a version selects that version exactly: 1.2 is neither 1.2.0 nor 1.20.",
		check: selectByVersion,
	},
	{
		name:  "select by metadata",
		why:   "A query selects the instances that have all of its metadata pairs; an empty value is not the same as none.",
		check: selectByMetadata,
	},
	{
		name: "select by status",
		why: "A query selects passing instances alone, unless it asks for any status: traffic goes to what can take it. Each " +
			"status arrives as it was registered.",
		check: selectByStatus,
	},
	{
		name:  "status changes",
		why:   "An instance that is updated to another status than passing leaves the set, and comes back when it is passing again.",
		check: statusChanges,
	},
}

// wantSelected fails unless q selects these, for a watch and for a lookup.
func (t *trial) wantSelected(q registry.Query, want ...string) {
	t.Helper()
	q.Service = t.name()
	t.watch(t.client(), q).until(fmt.Sprintf("%q, which %+v selects", want, q), exactly(want...))
	if got := ids(t.lookup(q)); !slices.Equal(got, want) {
		t.Errorf("Lookup of %+v returns %q, want %q", q, got, want)
	}
}

func selectByTags(t *trial) {
	r := t.client()
	for id, tags := range map[string][]string{"a": {"x", "y"}, "b": {"y", "z", "x"}, "c": {"xy"}, "d": nil, "e": {"X"}} {
		in := t.instance(id)
		in.Tags = tags
		t.register(r, in)
	}
	t.wantSelected(registry.Query{}, "a", "b", "c", "d", "e")
	t.wantSelected(registry.Query{Tags: []string{"y", "x"}}, "a", "b")
	t.wantSelected(registry.Query{Tags: []string{"xy"}}, "c")
	t.wantSelected(registry.Query{Tags: []string{"x", "no instance has it"}})

	w := t.watch(r, registry.Query{Service: t.name(), Tags: []string{"moving"}})
	w.until("a first set", exactly())
	in := t.instance("f")
	g := t.register(r, in)
	in.Tags = []string{"moving"}
	t.update(g, in)
	w.until("the instance that has the tag now", exactly("f"))
	in.Tags = []string{"moved"}
	t.update(g, in)
	w.until("the set without the instance that lost the tag", exactly())
}

func selectByVersion(t *trial) {
	r := t.client()
	for id, version := range map[string]string{"a": "1.2", "b": "1.2.0", "c": "1.20", "d": "", "e": "1.2"} {
		in := t.instance(id)
		in.Version = version
		t.register(r, in)
	}
	t.wantSelected(registry.Query{}, "a", "b", "c", "d", "e")
	t.wantSelected(registry.Query{Version: "1.2"}, "a", "e")
	t.wantSelected(registry.Query{Version: "1"})
}

func selectByMetadata(t *trial) {
	r := t.client()
	for id, metadata := range map[string]map[string]string{
		"a": {"team": "red", "tier": "1"}, "b": {"team": "red", "tier": "2"}, "c": {"team": "Red"}, "d": nil, "e": {"empty": ""},
	} {
		in := t.instance(id)
		in.Metadata = metadata
		t.register(r, in)
	}
	t.wantSelected(registry.Query{}, "a", "b", "c", "d", "e")
	t.wantSelected(registry.Query{Metadata: map[string]string{"team": "red"}}, "a", "b")
	t.wantSelected(registry.Query{Metadata: map[string]string{"team": "red", "tier": "2"}}, "b")
	t.wantSelected(registry.Query{Metadata: map[string]string{"empty": ""}}, "e")
	t.wantSelected(registry.Query{Metadata: map[string]string{"no instance": "has it"}})
}

// statuses by the ID under which a case registers them.
var statuses = map[string]registry.Status{
	"critical": registry.Critical, "maintenance": registry.Maintenance, "passing": registry.Passing, "warning": registry.Warning,
}

func selectByStatus(t *trial) {
	r := t.client()
	for id, status := range statuses {
		in := t.instance(id)
		in.Status = status
		t.register(r, in)
	}
	t.wantSelected(registry.Query{AnyStatus: true}, "critical", "maintenance", "passing", "warning")
	t.wantSelected(registry.Query{}, "passing")
	for _, in := range t.lookup(t.all()) {
		if in.Status != statuses[in.ID] {
			t.Errorf("the instance registered as %s is found as %s", in.ID, in.Status)
		}
	}
}

func statusChanges(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	passing := t.watch(t.client(), registry.Query{Service: t.name()})
	any := t.watch(t.client(), t.all())
	passing.until("the instance", exactly("a"))
	for _, status := range []registry.Status{registry.Critical, registry.Maintenance, registry.Warning} {
		in := t.instance("a")
		in.Status = status
		t.update(g, in)
		passing.until("the set without the "+status.String()+" instance", exactly())
		any.until("the status "+status.String(), func(p pair) bool { return exactly("a")(p) && p.find("a").Status == status })
		t.update(g, t.instance("a"))
		passing.until("the instance that passes again", exactly("a"))
		any.until("the status passing", func(p pair) bool { return exactly("a")(p) && p.find("a").Status == registry.Passing })
	}
}

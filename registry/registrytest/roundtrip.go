package registrytest

import (
	"fmt"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

var roundTrips = []promise{
	{
		name:  "every field",
		why:   "Every field of an instance arrives as it was registered, so that a program can change its backend by changing a URL.",
		check: everyField,
	},
	{
		name:  "unicode",
		why:   "Version, zone, tags, names of endpoints and metadata are any UTF-8 text, punctuation that a store uses itself included.",
		check: unicodeTexts,
	},
	{
		name: "long values",
		why: "A metadata value may have 2,000 bytes, though a store may allow fewer in one field of its own: what does not fit " +
			"is put elsewhere or refused, never cut.",
		check: longValues,
	},
	{
		name: "reserved keys",
		why: "The application may use any metadata key and any tag: a backend that keeps version, zone or weight in the same " +
			"place keeps them apart.",
		check: reservedKeys,
	},
	{
		name:  "addresses",
		why:   "IPv6 addresses keep their brackets, host names stay names, and an instance has as many endpoints as it likes.",
		check: addresses,
	},
	{
		name:  "empty and nil",
		why:   "Fields that are not set come back not set: a backend puts nothing of its own into them. Nil and empty are the same.",
		check: emptyAndNil,
	},
	{
		name: "drained",
		why: "A drained instance is found as drained, and what was found can be registered again: it stays drained. A backend that " +
			"reads a stored weight of 0 as 0 undrains it.",
		check: drained,
	},
	{
		name:  "update replaces all",
		why:   "Update replaces the whole instance: what the new content does not have is gone.",
		check: updateReplacesAll,
	},
}

// full has something in every field.
func (t *trial) full(id string) registry.Instance {
	return registry.Instance{
		ID: id, Service: t.name(), Address: "10.1.2.3:65535", Version: "v1.2.3-rc.1+build.5", Zone: "eu-central-1a",
		Endpoints: map[string]string{"http": "10.1.2.3:80", "admin": "10.1.2.4:1"},
		Tags:      []string{"zeta", "alpha", "zeta-2"}, // not sorted: their order is kept
		Metadata:  map[string]string{"team": "payments", "commit": "0f3c", "empty": ""},
		Weight:    65535, Status: registry.Warning,
	}
}

// roundTrip registers each instance and fails unless another client finds the same.
func (t *trial) roundTrip(all ...registry.Instance) {
	t.Helper()
	r := t.client()
	for _, in := range all {
		t.register(r, in)
	}
	found := t.watch(t.client(), t.all()).until("every instance", func(p pair) bool { return known(p) && len(p.set) == len(all) })
	for _, want := range all {
		if got := found.find(want.ID); got == nil {
			t.Errorf("%s is not among %v", want.ID, found)
		} else {
			t.wantSame(got, &want)
		}
	}
}

// wantSame names each field that differs.
func (t *trial) wantSame(got, want *registry.Instance) {
	t.Helper()
	if got.Equal(want) {
		return
	}
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"ID", got.ID, want.ID}, {"Service", got.Service, want.Service}, {"Address", got.Address, want.Address},
		{"Endpoints", got.Endpoints, want.Endpoints}, {"Version", got.Version, want.Version}, {"Zone", got.Zone, want.Zone},
		{"Tags", got.Tags, want.Tags}, {"Metadata", got.Metadata, want.Metadata}, {"Weight", got.Weight, want.Weight},
		{"Status", got.Status, want.Status},
	} {
		if g, w := fmt.Sprintf("%q", f.got), fmt.Sprintf("%q", f.want); g != w {
			t.Errorf("%s of %s is %.300s, want %.300s", f.name, want.ID, g, w)
		}
	}
}

func everyField(t *trial) {
	light := t.full("light")
	light.Weight = 1
	t.roundTrip(t.full("a"), light, t.full("ID.with_all-that:is.allowed"))
}

func unicodeTexts(t *trial) {
	// Two ways to write é, a text that runs right to left, one outside the basic plane, control characters, and what
	// stores and their protocols use: separators, quotes, escapes, templates.
	texts := []string{
		"caf\u00e9", "cafe\u0301", "שלום", "日本語", "🦊", "tab\there", "line\nbreak", " spaces ", "a=b", "a,b;c", "k:v/w\\x",
		`"quoted" 'twice'`, "50%", "%2F", "{{.}}", "<&>", "\u2028", "\x7f", "null", "~", "_", "{}", "[]",
	}
	a := t.instance("a")
	a.Version, a.Zone, a.Tags = texts[3], texts[2], texts
	b := t.instance("b")
	b.Metadata, b.Endpoints = map[string]string{}, map[string]string{}
	for i, s := range texts {
		b.Metadata[s] = texts[len(texts)-1-i]
		b.Endpoints[s] = fmt.Sprintf("10.0.0.1:%d", 9000+i)
	}
	t.roundTrip(a, b)
}

func longValues(t *trial) {
	a := t.instance("a")
	a.Metadata = map[string]string{
		"ascii":                  strings.Repeat("0123456789", 200),
		"two bytes a letter":     strings.Repeat("é", 1000),
		"600":                    strings.Repeat("x", 600),
		strings.Repeat("k", 200): "a long key",
	}
	b := t.instance("b")
	b.Metadata = map[string]string{}
	for i := range 40 {
		b.Metadata[fmt.Sprint("key", i)] = fmt.Sprint("value ", i)
		b.Tags = append(b.Tags, fmt.Sprint("tag", i))
	}
	t.roundTrip(a, b)
}

func reservedKeys(t *trial) {
	in := t.full("a")
	in.Metadata = map[string]string{}
	for _, key := range []string{
		"id", "name", "service", "address", "port", "host", "version", "zone", "weight", "status", "tags", "meta", "metadata",
		"endpoints", "http", "grpc", "secure", "rollcall", "rollcall.version", "rollcall-zone", "rollcall_weight", "rollcall/x",
		"consul-version", "external-source", "Op", "Addr",
	} {
		in.Metadata[key] = "the application's own " + key
		in.Tags = append(in.Tags, key+"=tag")
	}
	bare := t.instance("b")
	bare.Metadata = in.Metadata
	t.roundTrip(in, bare)
}

func addresses(t *trial) {
	var all []registry.Instance
	for i, address := range []string{
		"[2001:db8::1]:443", "[fd00::a:b]:8080", "[::ffff:10.0.0.1]:80", "example.internal:1", "UPPER.example:65535", "a_b.c-d:80",
	} {
		in := t.instance(fmt.Sprint("i", i))
		in.Address = address
		in.Endpoints = map[string]string{
			"grpc": address, "http": "[2001:db8::2]:80", "metrics": "10.9.9.9:9100", "with space": "10.9.9.9:1", "Http": "10.9.9.9:2",
			"h2c+tls/1.3": "10.9.9.9:3", "lan": "10.9.9.9:4", "wan": "10.9.9.9:5", "lan_ipv4": "10.9.9.9:6",
		}
		all = append(all, in)
	}
	t.roundTrip(all...)
}

func emptyAndNil(t *trial) {
	a := t.instance("a")
	b := t.instance("b")
	b.Endpoints, b.Tags, b.Metadata = map[string]string{}, []string{}, map[string]string{}
	c := t.instance("c")
	c.Metadata = map[string]string{"only": ""}
	t.roundTrip(a, b, c)
}

func drained(t *trial) {
	r := t.client()
	in := t.full("a")
	in.Weight = registry.Drained
	t.register(r, in)
	w := t.watch(t.client(), t.all())
	found := w.until("the drained instance", having("a", in.Version)).find("a")
	t.wantSame(found, &in)

	again := *found.Clone()
	again.Version = "again"
	g := t.register(r, again)
	t.wantSame(w.until("what was found, registered again", having("a", "again")).find("a"), &again)

	again.Version, again.Weight = "undrained", 0
	t.update(g, again)
	again.Weight = 1
	t.wantSame(w.until("the end of the drain", having("a", "undrained")).find("a"), &again)
	again.Version, again.Weight = "drained by an update", registry.Drained
	t.update(g, again)
	t.wantSame(w.until("a drain by an update", having("a", again.Version)).find("a"), &again)
}

func updateReplacesAll(t *trial) {
	r := t.client()
	full, bare := t.full("a"), t.instance("a")
	g := t.register(r, full)
	w := t.watch(t.client(), t.all())
	w.until("the full instance", having("a", full.Version))
	for _, want := range []registry.Instance{bare, full} {
		t.update(g, want)
		p := w.until("the update", having("a", want.Version))
		t.wantSame(p.find("a"), &want)
	}
}

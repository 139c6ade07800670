package etcd

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// plainInstance is one that every format that can be written says all of.
var plainInstance = registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}

// instances have what formats may stumble over, and are passing.
var instances = map[string]registry.Instance{
	"plain": plainInstance,
	"every field": {
		ID: "ID.with_all-that:is.allowed", Service: "s.v1", Address: "[2001:db8::1]:80", Version: "v1.2", Zone: "z",
		Endpoints: map[string]string{"http": "10.0.0.1:81", "admin": "h:82"}, Tags: []string{"b", "a"},
		Metadata: map[string]string{"k": "v", "empty": ""}, Weight: 65535,
	},
	"version and zone":      with(func(in *registry.Instance) { in.Version, in.Zone = "1", "z" }),
	"metadata alone":        with(func(in *registry.Instance) { in.Metadata = map[string]string{"k": `"quoted"`, "l": "<&>\u2028"} }),
	"metadata named so":     with(func(in *registry.Instance) { in.Metadata = map[string]string{"version": "7", "zone": "x"} }),
	"metadata with ours":    with(func(in *registry.Instance) { in.Metadata = map[string]string{"rollcall": "{}", "weight": "9"} }),
	"a weight":              with(func(in *registry.Instance) { in.Weight = 7 }),
	"weight and metadata":   with(func(in *registry.Instance) { in.Weight, in.Metadata = 7, map[string]string{"weight": "x"} }),
	"an endpoint for grpc":  with(func(in *registry.Instance) { in.Endpoints = map[string]string{"grpc": "10.0.0.1:99"} }),
	"the address for http":  with(func(in *registry.Instance) { in.Endpoints = map[string]string{"http": in.Address} }),
	"the address for grpcs": with(func(in *registry.Instance) { in.Endpoints = map[string]string{"grpcs": in.Address, "http": "h:1"} }),
	"names that are no URL": with(func(in *registry.Instance) { in.Endpoints = map[string]string{"HTTP": "h:1", "a b": "h:2", "%": "h:3"} }),
	"a value of ours inside": with(func(in *registry.Instance) {
		in.Metadata = map[string]string{"rollcall": `{"service":"s","address":"10.0.0.1:80","version":"planted"}`}
	}),
}

func with(change func(*registry.Instance)) registry.Instance {
	in := *plainInstance.Clone()
	change(&in)
	return in
}

func TestFormatsSayEverything(t *testing.T) {
	for _, name := range []string{FormatRollcall, FormatNaming, FormatKratos} {
		for what, in := range instances {
			value, err := formats[name].encode(&in)
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			got, err := formats[name].decode(in.Service, in.ID, value)
			if err != nil || !got.Equal(&in) {
				t.Errorf("%s, %s:\n%s\nis %+v, %v", name, what, value, got, err)
			}
			again, err := formats[name].encode(in.Clone())
			if err != nil || string(again) != string(value) {
				t.Errorf("%s, %s: the same instance is %s, and then %s", name, what, value, again)
			}
		}
	}
}

// What a client of kratos is to stay away from has no endpoint.
func TestKratosStatus(t *testing.T) {
	for _, status := range []registry.Status{registry.Warning, registry.Critical, registry.Maintenance} {
		in := with(func(in *registry.Instance) { in.Status = status })
		value, err := kratosFormat{}.encode(&in)
		if err != nil || !strings.Contains(string(value), `"endpoints":[]`) {
			t.Errorf("%v is %s, %v", status, value, err)
		}
		if got, err := (kratosFormat{}).decode("s", "a", value); err != nil || !got.Equal(&in) {
			t.Errorf("%v comes back as %+v, %v", status, got, err)
		}
	}
}

func TestWhatAFormatCannotSay(t *testing.T) {
	for _, name := range []string{FormatNaming, FormatGoZero} {
		for _, status := range []registry.Status{registry.Warning, registry.Critical, registry.Maintenance} {
			in := with(func(in *registry.Instance) { in.Status = status })
			_, err := formats[name].encode(&in)
			if !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), status.String()) {
				t.Errorf("%s, %v: %v", name, status, err)
			}
		}
	}
	if _, err := (goMicroFormat{}).encode(&plainInstance); !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), FormatGoMicro) {
		t.Errorf("go-micro: %v", err)
	}
	full := instances["every field"]
	value, err := goZeroFormat{}.encode(&full)
	if err != nil || string(value) != full.Address {
		t.Errorf("go-zero: %s, %v", value, err)
	}
	want := registry.Instance{ID: full.ID, Service: full.Service, Address: full.Address, Weight: 1}
	if got, err := (goZeroFormat{}).decode(full.Service, full.ID, value); err != nil || !got.Equal(&want) {
		t.Errorf("go-zero has %+v, %v", got, err)
	}
}

// The values of all formats, byte for byte: what is written today has to be read by a version of years ago.
func TestValuesByteForByte(t *testing.T) {
	in := registry.Instance{
		ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "v1", Metadata: map[string]string{"k": "v"}, Weight: 1,
		Endpoints: map[string]string{"http": "10.0.0.1:81"},
	}
	own := `{"id":"a","service":"s","address":"10.0.0.1:80","endpoints":{"http":"10.0.0.1:81"},"version":"v1","metadata":{"k":"v"},"weight":1}`
	heavy := with(func(in *registry.Instance) { in.Weight = 3 })
	for _, c := range []struct {
		format string
		in     registry.Instance
		want   string
	}{
		{FormatRollcall, in, own},
		{FormatNaming, plainInstance, `{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}`},
		{FormatNaming, in, `{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"k":"v","rollcall":` + own + `,"version":"v1"}}`},
		{FormatNaming, with(func(in *registry.Instance) { in.Zone, in.Metadata = "z", map[string]string{"zone": "theirs"} }),
			`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"rollcall":{"id":"a","service":"s","address":"10.0.0.1:80","zone":"z",` +
				`"metadata":{"zone":"theirs"},"weight":1},"zone":"theirs"}}`},
		{FormatNaming, with(func(in *registry.Instance) { in.Zone = "z" }),
			`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"rollcall":{"id":"a","service":"s","address":"10.0.0.1:80","zone":"z","weight":1},"zone":"z"}}`},
		{FormatKratos, plainInstance, `{"id":"a","name":"s","version":"","metadata":{},"endpoints":["grpc://10.0.0.1:80"]}`},
		{FormatKratos, in, `{"id":"a","name":"s","version":"v1","metadata":{"k":"v"},"endpoints":["grpc://10.0.0.1:80","http://10.0.0.1:81"]}`},
		{FormatKratos, heavy, `{"id":"a","name":"s","version":"","metadata":{"rollcall":"{\"id\":\"a\",\"service\":\"s\",` +
			`\"address\":\"10.0.0.1:80\",\"weight\":3}","weight":"3"},"endpoints":["grpc://10.0.0.1:80"]}`},
		// A URL that cannot be parsed would make its clients pass the instance by.
		{FormatKratos, with(func(in *registry.Instance) { in.Endpoints = map[string]string{"%": "h:1", "HTTP": "h:2"} }),
			`{"id":"a","name":"s","version":"","metadata":{"rollcall":"{\"id\":\"a\",\"service\":\"s\",\"address\":\"10.0.0.1:80\",` +
				`\"endpoints\":{\"%\":\"h:1\",\"HTTP\":\"h:2\"},\"weight\":1}"},"endpoints":["grpc://10.0.0.1:80"]}`},
		{FormatGoZero, plainInstance, "10.0.0.1:80"},
	} {
		if value, err := formats[c.format].encode(&c.in); err != nil || string(value) != c.want {
			t.Errorf("%s: got\n%s, %v, want\n%s", c.format, value, err, c.want)
		}
	}
}

func TestValuesOfOthers(t *testing.T) {
	at := func(address string, change ...func(*registry.Instance)) *registry.Instance {
		in := &registry.Instance{ID: "a", Service: "s", Address: address, Weight: 1}
		for _, f := range change {
			f(in)
		}
		return in
	}
	meta := func(m map[string]string) func(*registry.Instance) {
		return func(in *registry.Instance) { in.Metadata = m }
	}
	for _, c := range []struct {
		format, value string
		want          *registry.Instance // nil: it is none
	}{
		{FormatNaming, `{"Op":0,"Addr":"h:1","Metadata":null}`, at("h:1")},
		{FormatNaming, `{"Addr":"h:1"}`, at("h:1")},
		{FormatNaming, `{"Op":0,"Addr":"h:1","Metadata":"text"}`, at("h:1", meta(map[string]string{"metadata": "text"}))},
		{FormatNaming, `{"Op":0,"Addr":"h:1","Metadata":[1, 2]}`, at("h:1", meta(map[string]string{"metadata": "[1,2]"}))},
		{FormatNaming, `{"Op":0,"Addr":"h:1","Metadata":{"weight":5,"deep":{"a": 1},"zone":"z","version":"v","":"x"}}`,
			at("h:1", meta(map[string]string{"weight": "5", "deep": `{"a":1}`, "zone": "z", "version": "v"}),
				func(in *registry.Instance) { in.Version, in.Zone = "v", "z" })},
		// Moved since it was announced; of another instance; no instance.
		{FormatNaming, `{"Addr":"h:2","Metadata":{"rollcall":{"service":"s","address":"h:1"}}}`,
			at("h:2", meta(map[string]string{"rollcall": `{"service":"s","address":"h:1"}`}))},
		{FormatNaming, `{"Addr":"h:1","Metadata":{"rollcall":{"id":"b","service":"s","address":"h:1"}}}`,
			at("h:1", meta(map[string]string{"rollcall": `{"id":"b","service":"s","address":"h:1"}`}))},
		{FormatNaming, `{"Addr":"h:1","Metadata":{"rollcall":7}}`, at("h:1", meta(map[string]string{"rollcall": "7"}))},
		{FormatNaming, `{"Addr":"","Metadata":"x"}`, nil},
		{FormatNaming, `{"Addr":"no port"}`, nil},
		{FormatNaming, `{"Addr":7}`, nil},
		{FormatNaming, `h:1`, nil},
		{FormatNaming, ``, nil},
		{FormatNaming, `7`, nil},
		{FormatNaming, `null`, nil},

		{FormatKratos, `{"id":"x","name":"s","version":"v","metadata":null,"endpoints":["http://h:1","grpc://h:2?isSecure=false"]}`,
			at("h:2", func(in *registry.Instance) { in.Version, in.Endpoints = "v", map[string]string{"http": "h:1"} })},
		{FormatKratos, `{"name":"s","endpoints":["http://h:1?isSecure=true","grpc://h:2?isSecure=true"],"metadata":{"weight":"30","zone":"z","":"x"}}`,
			at("h:2", meta(map[string]string{"weight": "30", "zone": "z"}), func(in *registry.Instance) {
				in.Weight, in.Zone, in.Endpoints = 30, "z", map[string]string{"https": "h:1", "grpcs": "h:2"}
			})},
		{FormatKratos, `{"name":"s","endpoints":["http://h:1","http://h:2","::","grpc://h","/x"],"metadata":{"weight":"-1"}}`,
			at("h:1", meta(map[string]string{"weight": "-1"}), func(in *registry.Instance) { in.Endpoints = map[string]string{"http": "h:1"} })},
		{FormatKratos, `{"name":"s","endpoints":["grpc://h:2"],"metadata":{"rollcall":"{\"service\":\"s\",\"address\":\"h:1\"}"}}`,
			at("h:2", meta(map[string]string{"rollcall": `{"service":"s","address":"h:1"}`}))},
		{FormatKratos, `{"name":"other","endpoints":["grpc://h:2"]}`, nil},
		{FormatKratos, `{"name":"s","endpoints":[]}`, nil},
		{FormatKratos, `{"name":"s"}`, nil},
		{FormatKratos, `{"name":"s","endpoints":"grpc://h:2"}`, nil},
		{FormatKratos, `{"name":"s","endpoints":["unix:///tmp/x"]}`, nil},
		{FormatKratos, `null`, nil},

		{FormatGoZero, `h:1`, at("h:1")},
		{FormatGoZero, `[::1]:8`, at("[::1]:8")},
		{FormatGoZero, `h`, nil},
		{FormatGoZero, ``, nil},
		{FormatGoZero, `{"address":"h:1"}`, nil},
		{FormatGoZero, "h:1\n", nil},

		{FormatGoMicro, `{"name":"s","version":"latest","metadata":{"k":"1","l":"2"},"endpoints":[{"name":"S.M","request":{"name":"R"}}],` +
			`"nodes":[{"id":"a","address":"h:1","metadata":{"k":"3","protocol":"grpc"}}]}`,
			at("h:1", meta(map[string]string{"k": "3", "l": "2", "protocol": "grpc"}), func(in *registry.Instance) { in.Version = "latest" })},
		{FormatGoMicro, `{"name":"s","nodes":[{"id":"b","address":"h:2"},{"id":"a","address":"10.0.0.1","port":7}]}`, at("10.0.0.1:7")},
		{FormatGoMicro, `{"name":"s","nodes":[{"id":"a","address":"::1","port":7}]}`, at("[::1]:7")},
		{FormatGoMicro, `{"name":"s","nodes":[{"id":"b","address":"h:1"}]}`, nil},
		{FormatGoMicro, `{"name":"s","nodes":[]}`, nil},
		{FormatGoMicro, `{"name":"s","nodes":[{"id":"a","address":"h"}]}`, nil},
		{FormatGoMicro, `{"name":"t","nodes":[{"id":"a","address":"h:1"}]}`, nil},
		{FormatGoMicro, `null`, nil},
	} {
		got, err := formats[c.format].decode("s", "a", []byte(c.value))
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%s: %s is %+v", c.format, c.value, got)
		case c.want != nil && (err != nil || !reflect.DeepEqual(got, c.want)):
			t.Errorf("%s: %s is\n%+v, %v, want\n%+v", c.format, c.value, got, err, c.want)
		}
	}
	// A slash is a dash in the keys of go-micro.
	got, err := goMicroFormat{}.decode("a-b", "c-d", []byte(`{"name":"a/b","nodes":[{"id":"c/d","address":"h:1"}]}`))
	if err != nil || got.Service != "a-b" || got.ID != "c-d" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Whatever stands in etcd, what comes of it can be used, and is the instance of its key.
func FuzzDecode(f *testing.F) {
	for _, in := range instances {
		for _, name := range []string{FormatRollcall, FormatNaming, FormatKratos, FormatGoZero} {
			value, err := formats[name].encode(&in)
			if err != nil {
				f.Fatal(err)
			}
			f.Add("s", "a", value)
		}
	}
	f.Add("s", "", []byte(`h:1`))
	f.Add("s", "\xff", []byte(`h:1`))
	f.Add("a-b", "c", []byte(`{"name":"a/b","nodes":[{"id":"c","address":"h:1"}]}`))
	f.Fuzz(func(t *testing.T, service, id string, value []byte) {
		if !canBeAskedFor(service) {
			return // its keys are never read
		}
		for name, format := range formats {
			in, err := format.decode(service, id, value)
			if err != nil {
				continue
			}
			if in.ID != id || in.Service != service || id == "" || !utf8.ValidString(id) {
				t.Errorf("%s: %s of %s is %s of %s", name, id, service, in.ID, in.Service)
			}
			other := in.Clone()
			other.ID = ""
			if err := other.Validate(); err != nil {
				t.Errorf("%s: %q: %v", name, value, err)
			}
		}
	})
}

func TestFormatOfConfig(t *testing.T) {
	for format, want := range map[string]string{
		"": "etcd h:2379 /rollcall/", FormatRollcall: "etcd h:2379 /rollcall/", FormatNaming: "etcd h:2379 naming",
		FormatKratos: "etcd h:2379 /microservices/ kratos", FormatGoZero: "etcd h:2379 gozero",
		FormatGoMicro: "etcd h:2379 /micro/registry/ gomicro",
	} {
		r, err := Open(t.Context(), parse(t, "etcd://h/?format="+format))
		if err != nil || r.String() != want {
			t.Errorf("format %q is %q, %v", format, r, err)
			continue
		}
		r.Close()
	}
	r, err := New(Config{Endpoints: []string{"h"}, Format: FormatKratos, Prefix: "/team"})
	if err != nil || r.String() != "etcd h:2379 /team/ kratos" {
		t.Errorf("with a prefix it is %q, %v", r, err)
	}
	r.Close()
	_, err = New(Config{Format: "kitex"})
	wantRefusal(t, err, append(slices.Collect(maps.Keys(formats)), "Format", `"kitex"`)...)
}

// What somebody else writes in our form means what it says: no weight is that of most, and 0 is 0.
func TestAMissingWeightIsOne(t *testing.T) {
	for text, want := range map[string]int{
		`{"address":"h:1"}`: 1, `{"address":"h:1","weight":0}`: 0, `{"address":"h:1","weight":7}`: 7,
	} {
		in, err := ownFormat{}.decode("s", "a", []byte(text))
		if err != nil || in.Weight != want {
			t.Errorf("%s has weight %v, %v, want %d", text, in, err, want)
		}
	}
}

package format

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// plainInstance is an instance that every writable format expresses completely.
var plainInstance = registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}

// instances are passing, and difficult for some formats.
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

func TestFormats_RoundTrip(t *testing.T) {
	for _, name := range []string{Rollcall, Naming, Kratos} {
		for what, in := range instances {
			value, err := ByName[name].Encode(&in)
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			got, err := ByName[name].Decode(in.Service, in.ID, value)
			if err != nil || !got.Equal(&in) {
				t.Errorf("%s, %s:\n%s\nis %+v, %v", name, what, value, got, err)
			}
			again, err := ByName[name].Encode(in.Clone())
			if err != nil || string(again) != string(value) {
				t.Errorf("%s, %s: the same instance is %s, and then %s", name, what, value, again)
			}
		}
	}
}

// Clients of kratos skip an instance without endpoints.
func TestKratosFormat_Status(t *testing.T) {
	for _, status := range []registry.Status{registry.Warning, registry.Critical, registry.Maintenance} {
		in := with(func(in *registry.Instance) { in.Status = status })
		value, err := kratosFormat{}.Encode(&in)
		if err != nil || !strings.Contains(string(value), `"endpoints":[]`) {
			t.Errorf("%v is %s, %v", status, value, err)
		}
		if got, err := (kratosFormat{}).Decode("s", "a", value); err != nil || !got.Equal(&in) {
			t.Errorf("%v comes back as %+v, %v", status, got, err)
		}
	}
}

func TestEncode_Unsupported(t *testing.T) {
	for _, name := range []string{Naming, GoZero} {
		for _, status := range []registry.Status{registry.Warning, registry.Critical, registry.Maintenance} {
			in := with(func(in *registry.Instance) { in.Status = status })
			_, err := ByName[name].Encode(&in)
			if !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), status.String()) {
				t.Errorf("%s, %v: %v", name, status, err)
			}
		}
	}
	if _, err := (goMicroFormat{}).Encode(&plainInstance); !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), GoMicro) {
		t.Errorf("go-micro: %v", err)
	}
	full := instances["every field"]
	value, err := goZeroFormat{}.Encode(&full)
	if err != nil || string(value) != full.Address {
		t.Errorf("go-zero: %s, %v", value, err)
	}
	want := registry.Instance{ID: full.ID, Service: full.Service, Address: full.Address, Weight: 1}
	if got, err := (goZeroFormat{}).Decode(full.Service, full.ID, value); err != nil || !got.Equal(&want) {
		t.Errorf("go-zero has %+v, %v", got, err)
	}
}

// The bytes of a value must not change: older versions read them.
func TestEncode_Bytes(t *testing.T) {
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
		{Rollcall, in, own},
		{Naming, plainInstance, `{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}`},
		{Naming, in, `{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"k":"v","rollcall":` + own + `,"version":"v1"}}`},
		{Naming, with(func(in *registry.Instance) { in.Zone, in.Metadata = "z", map[string]string{"zone": "theirs"} }),
			`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"rollcall":{"id":"a","service":"s","address":"10.0.0.1:80","zone":"z",` +
				`"metadata":{"zone":"theirs"},"weight":1},"zone":"theirs"}}`},
		{Naming, with(func(in *registry.Instance) { in.Zone = "z" }),
			`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"rollcall":{"id":"a","service":"s","address":"10.0.0.1:80","zone":"z","weight":1},"zone":"z"}}`},
		{Kratos, plainInstance, `{"id":"a","name":"s","version":"","metadata":{},"endpoints":["grpc://10.0.0.1:80"]}`},
		{Kratos, in, `{"id":"a","name":"s","version":"v1","metadata":{"k":"v"},"endpoints":["grpc://10.0.0.1:80","http://10.0.0.1:81"]}`},
		{Kratos, heavy, `{"id":"a","name":"s","version":"","metadata":{"rollcall":"{\"id\":\"a\",\"service\":\"s\",` +
			`\"address\":\"10.0.0.1:80\",\"weight\":3}","weight":"3"},"endpoints":["grpc://10.0.0.1:80"]}`},
		// A URL that cannot be parsed would make its clients pass the instance by.
		{Kratos, with(func(in *registry.Instance) { in.Endpoints = map[string]string{"%": "h:1", "HTTP": "h:2"} }),
			`{"id":"a","name":"s","version":"","metadata":{"rollcall":"{\"id\":\"a\",\"service\":\"s\",\"address\":\"10.0.0.1:80\",` +
				`\"endpoints\":{\"%\":\"h:1\",\"HTTP\":\"h:2\"},\"weight\":1}"},"endpoints":["grpc://10.0.0.1:80"]}`},
		{GoZero, plainInstance, "10.0.0.1:80"},
	} {
		if value, err := ByName[c.format].Encode(&c.in); err != nil || string(value) != c.want {
			t.Errorf("%s: got\n%s, %v, want\n%s", c.format, value, err, c.want)
		}
	}
}

func TestDecode_ForeignValues(t *testing.T) {
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
		want          *registry.Instance // nil: unreadable
	}{
		{Naming, `{"Op":0,"Addr":"h:1","Metadata":null}`, at("h:1")},
		{Naming, `{"Addr":"h:1"}`, at("h:1")},
		{Naming, `{"Op":0,"Addr":"h:1","Metadata":"text"}`, at("h:1", meta(map[string]string{"metadata": "text"}))},
		{Naming, `{"Op":0,"Addr":"h:1","Metadata":[1, 2]}`, at("h:1", meta(map[string]string{"metadata": "[1,2]"}))},
		{Naming, `{"Op":0,"Addr":"h:1","Metadata":{"weight":5,"deep":{"a": 1},"zone":"z","version":"v","":"x"}}`,
			at("h:1", meta(map[string]string{"weight": "5", "deep": `{"a":1}`, "zone": "z", "version": "v"}),
				func(in *registry.Instance) { in.Version, in.Zone = "v", "z" })},
		// The address was changed since; of another instance; no instance.
		{Naming, `{"Addr":"h:2","Metadata":{"rollcall":{"service":"s","address":"h:1"}}}`,
			at("h:2", meta(map[string]string{"rollcall": `{"service":"s","address":"h:1"}`}))},
		{Naming, `{"Addr":"h:1","Metadata":{"rollcall":{"id":"b","service":"s","address":"h:1"}}}`,
			at("h:1", meta(map[string]string{"rollcall": `{"id":"b","service":"s","address":"h:1"}`}))},
		{Naming, `{"Addr":"h:1","Metadata":{"rollcall":7}}`, at("h:1", meta(map[string]string{"rollcall": "7"}))},
		{Naming, `{"Addr":"","Metadata":"x"}`, nil},
		{Naming, `{"Addr":"no port"}`, nil},
		{Naming, `{"Addr":7}`, nil},
		{Naming, `h:1`, nil},
		{Naming, ``, nil},
		{Naming, `7`, nil},
		{Naming, `null`, nil},

		{Kratos, `{"id":"x","name":"s","version":"v","metadata":null,"endpoints":["http://h:1","grpc://h:2?isSecure=false"]}`,
			at("h:2", func(in *registry.Instance) { in.Version, in.Endpoints = "v", map[string]string{"http": "h:1"} })},
		{Kratos, `{"name":"s","endpoints":["http://h:1?isSecure=true","grpc://h:2?isSecure=true"],"metadata":{"weight":"30","zone":"z","":"x"}}`,
			at("h:2", meta(map[string]string{"weight": "30", "zone": "z"}), func(in *registry.Instance) {
				in.Weight, in.Zone, in.Endpoints = 30, "z", map[string]string{"https": "h:1", "grpcs": "h:2"}
			})},
		{Kratos, `{"name":"s","endpoints":["http://h:1","http://h:2","::","grpc://h","/x"],"metadata":{"weight":"-1"}}`,
			at("h:1", meta(map[string]string{"weight": "-1"}), func(in *registry.Instance) {
				in.Endpoints, in.Weight = map[string]string{"http": "h:1"}, registry.Drained
			})},
		{Kratos, `{"name":"s","endpoints":["grpc://h:2"],"metadata":{"rollcall":"{\"service\":\"s\",\"address\":\"h:1\"}"}}`,
			at("h:2", meta(map[string]string{"rollcall": `{"service":"s","address":"h:1"}`}))},
		{Kratos, `{"name":"other","endpoints":["grpc://h:2"]}`, nil},
		{Kratos, `{"name":"s","endpoints":[]}`, nil},
		{Kratos, `{"name":"s"}`, nil},
		{Kratos, `{"name":"s","endpoints":"grpc://h:2"}`, nil},
		{Kratos, `{"name":"s","endpoints":["unix:///tmp/x"]}`, nil},
		{Kratos, `null`, nil},

		{GoZero, `h:1`, at("h:1")},
		{GoZero, `[::1]:8`, at("[::1]:8")},
		{GoZero, `h`, nil},
		{GoZero, ``, nil},
		{GoZero, `{"address":"h:1"}`, nil},
		{GoZero, "h:1\n", nil},

		{GoMicro, `{"name":"s","version":"latest","metadata":{"k":"1","l":"2"},"endpoints":[{"name":"S.M","request":{"name":"R"}}],` +
			`"nodes":[{"id":"a","address":"h:1","metadata":{"k":"3","protocol":"grpc"}}]}`,
			at("h:1", meta(map[string]string{"k": "3", "l": "2", "protocol": "grpc"}), func(in *registry.Instance) { in.Version = "latest" })},
		{GoMicro, `{"name":"s","nodes":[{"id":"b","address":"h:2"},{"id":"a","address":"10.0.0.1","port":7}]}`, at("10.0.0.1:7")},
		{GoMicro, `{"name":"s","nodes":[{"id":"a","address":"::1","port":7}]}`, at("[::1]:7")},
		{GoMicro, `{"name":"s","nodes":[{"id":"b","address":"h:1"}]}`, nil},
		{GoMicro, `{"name":"s","nodes":[]}`, nil},
		{GoMicro, `{"name":"s","nodes":[{"id":"a","address":"h"}]}`, nil},
		{GoMicro, `{"name":"t","nodes":[{"id":"a","address":"h:1"}]}`, nil},
		{GoMicro, `null`, nil},
	} {
		got, err := ByName[c.format].Decode("s", "a", []byte(c.value))
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%s: %s is %+v", c.format, c.value, got)
		case c.want != nil && (err != nil || !reflect.DeepEqual(got, c.want)):
			t.Errorf("%s: %s is\n%+v, %v, want\n%+v", c.format, c.value, got, err, c.want)
		}
	}
	// A slash is a dash in the keys of go-micro.
	got, err := goMicroFormat{}.Decode("a-b", "c-d", []byte(`{"name":"a/b","nodes":[{"id":"c/d","address":"h:1"}]}`))
	if err != nil || got.Service != "a-b" || got.ID != "c-d" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// From any value, Decode returns a valid instance with the ID and service of its key, or an error.
func FuzzDecode(f *testing.F) {
	for _, in := range instances {
		for _, name := range []string{Rollcall, Naming, Kratos, GoZero} {
			value, err := ByName[name].Encode(&in)
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
		if (registry.Query{Service: service}).Validate() != nil {
			return // keys of such a service are never read
		}
		for name, format := range ByName {
			in, err := format.Decode(service, id, value)
			if err != nil {
				continue
			}
			if in.ID != id || in.Service != service || id == "" || !utf8.ValidString(id) {
				t.Errorf("%s: %s of %s is %s of %s", name, id, service, in.ID, in.Service)
			}
			other := in.Clone()
			other.ID = ""
			if other.Weight == registry.Drained {
				other.Weight = 0
			} else if other.Weight <= 0 {
				t.Errorf("%s: %q: the weight is %d", name, value, other.Weight)
			}
			if err := other.Validate(); err != nil {
				t.Errorf("%s: %q: %v", name, value, err)
			}
		}
	})
}

// The default is 1, and a weight of 0 or less means drained.
func TestDecode_Weight(t *testing.T) {
	for text, want := range map[string]int{
		`{"address":"h:1"}`: 1, `{"address":"h:1","weight":0}`: registry.Drained, `{"address":"h:1","weight":-1}`: registry.Drained,
		`{"address":"h:1","weight":-70000}`: registry.Drained, `{"address":"h:1","weight":7}`: 7,
	} {
		in, err := ownFormat{}.Decode("s", "a", []byte(text))
		if err != nil || in.Weight != want {
			t.Errorf("%s has weight %v, %v, want %d", text, in, err, want)
		}
	}
}

// An instance that was looked up can be registered as it is.
func TestFormats_DrainedWeightRoundTrips(t *testing.T) {
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: registry.Drained}
	for _, name := range []string{Rollcall, Naming, Kratos} {
		value, err := ByName[name].Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ByName[name].Decode("s", "a", value); err != nil || !got.Equal(in) {
			t.Errorf("%s: %s is read as %+v, %v", name, value, got, err)
		}
	}
	for text, want := range map[string]int{"0": registry.Drained, "-7": registry.Drained, "3": 3, "70000": 1, "x": 1} {
		value := fmt.Sprintf(`{"id":"a","name":"s","metadata":{"weight":%q},"endpoints":["grpc://10.0.0.1:80"]}`, text)
		if got, err := ByName[Kratos].Decode("s", "a", []byte(value)); err != nil || got.Weight != want {
			t.Errorf("kratos: weight %q is read as %+v, %v", text, got, err)
		}
	}
}

// Every format but gozero can express that an instance leaves.
func TestFormats_Leaving(t *testing.T) {
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1, Status: registry.Maintenance}
	for _, name := range []string{Rollcall, Naming, Kratos} {
		value, err := EncodeLeaving(ByName[name], in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ByName[name].Decode("s", "a", value); err != nil || got.Status != registry.Maintenance {
			t.Errorf("%s: %s is read as %+v, %v", name, value, got, err)
		}
	}
	if value, err := EncodeLeaving(ByName[GoZero], in); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("gozero: %s, %v", value, err)
	}
	if _, err := ByName[Naming].Encode(in); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("naming: a status can be registered: %v", err)
	}
}

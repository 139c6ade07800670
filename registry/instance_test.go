package registry_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

var full = registry.Instance{
	ID: "a-1", Service: "web", Address: "[2001:db8::7]:443", Endpoints: map[string]string{"http": "10.0.0.7:8080"},
	Version: "1.2.3", Zone: "eu-1a", Tags: []string{"b", "ä"}, Metadata: map[string]string{"k": "v"}, Weight: 7, Status: registry.Warning,
}

// The JSON form is stored in registries and on disk: a change here breaks what is out there.
func TestInstance_JSONFormIsStable(t *testing.T) {
	const want = `{"id":"a-1","service":"web","address":"[2001:db8::7]:443","endpoints":{"http":"10.0.0.7:8080"},` +
		`"version":"1.2.3","zone":"eu-1a","tags":["b","ä"],"metadata":{"k":"v"},"weight":7,"status":"warning"}`
	got, err := json.Marshal(full)
	if err != nil || string(got) != want {
		t.Errorf("marshalled as %s, %v\nwant %s", got, err, want)
	}
	var back registry.Instance
	if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, full) {
		t.Errorf("read back as %+v, %v", back, err)
	}
	small, err := json.Marshal(registry.Instance{Service: "web", Address: "h:1"})
	if err != nil || string(small) != `{"service":"web","address":"h:1"}` {
		t.Errorf("zero values are marshalled as %s, %v", small, err)
	}
	if err := json.Unmarshal([]byte(`{"service":"web","later":1}`), &back); err != nil {
		t.Errorf("an unknown member is an error: %v", err)
	}
}

func TestClone_SharesNothing(t *testing.T) {
	c := full.Clone()
	if !reflect.DeepEqual(*c, full) || !c.Equal(&full) {
		t.Fatalf("the clone is %+v", c)
	}
	c.Endpoints["http"], c.Tags[0], c.Metadata["k"] = "x", "x", "x"
	if full.Endpoints["http"] == "x" || full.Tags[0] == "x" || full.Metadata["k"] == "x" {
		t.Error("the clone shares a map or slice with its original")
	}
	if (*registry.Instance)(nil).Clone() != nil {
		t.Error("the clone of nil is not nil")
	}
}

func TestEqual_ComparesEveryField(t *testing.T) {
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		c := full.Clone()
		f := reflect.ValueOf(c).Elem().Field(i)
		f.Set(reflect.Zero(f.Type()))
		if c.Equal(&full) || full.Equal(c) {
			t.Errorf("a difference in %s goes unseen", v.Type().Field(i).Name)
		}
	}
	a, b := registry.Instance{Tags: []string{}, Metadata: map[string]string{}}, registry.Instance{}
	if !a.Equal(&b) {
		t.Error("empty and nil differ")
	}
	if a.Equal(nil) || !(*registry.Instance)(nil).Equal(nil) {
		t.Error("nil is compared wrongly")
	}
}

func TestQuery_Matches(t *testing.T) {
	for _, c := range []struct {
		q    registry.Query
		want bool
	}{
		{registry.Query{Service: "web", AnyStatus: true}, true},
		{registry.Query{Service: "web"}, false}, // it is not passing
		{registry.Query{Service: "we", AnyStatus: true}, false},
		{registry.Query{Service: "Web", AnyStatus: true}, false},
		{registry.Query{Service: "web", AnyStatus: true, Tags: []string{"ä", "b"}}, true},
		{registry.Query{Service: "web", AnyStatus: true, Tags: []string{"b", "c"}}, false},
		{registry.Query{Service: "web", AnyStatus: true, Version: "1.2.3"}, true},
		{registry.Query{Service: "web", AnyStatus: true, Version: "1.2"}, false},
		{registry.Query{Service: "web", AnyStatus: true, Metadata: map[string]string{"k": "v"}}, true},
		{registry.Query{Service: "web", AnyStatus: true, Metadata: map[string]string{"k": "v", "l": ""}}, false},
		{registry.Query{Service: "web", AnyStatus: true, Metadata: map[string]string{"k": ""}}, false},
	} {
		if got := c.q.Matches(&full); got != c.want {
			t.Errorf("%+v matches: %v, want %v", c.q, got, c.want)
		}
	}
}

func TestStatus_Text(t *testing.T) {
	for s, want := range map[registry.Status]string{
		registry.Passing: "passing", registry.Warning: "warning", registry.Critical: "critical", registry.Maintenance: "maintenance",
	} {
		var back registry.Status
		if err := back.UnmarshalText([]byte(want)); s.String() != want || err != nil || back != s {
			t.Errorf("%d: %q, read back as %v, %v", int(s), s, back, err)
		}
	}
	if _, err := registry.Status(9).MarshalText(); !errors.Is(err, registry.ErrInvalid) || registry.Status(9).String() != "Status(9)" {
		t.Errorf("9 is marshalled: %v", err)
	}
	var s registry.Status
	if err := s.UnmarshalText([]byte("Passing")); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `"Passing"`) {
		t.Errorf("Passing is read: %v", err)
	}
}

func TestDrained_IsRegisteredAndFoundAsDrained(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg, other := newStore(t)
		in := instance("a")
		in.Weight = registry.Drained
		if got := watchtest.Register(t, reg, in).Instance().Weight; got != registry.Drained {
			t.Errorf("Instance has weight %d", got)
		}
		for range 2 { // what is found is registered again
			set, err := other.Lookup(t.Context(), web)
			if err != nil || len(set) != 1 || set[0].Weight != registry.Drained {
				t.Fatalf("found as %v, %v", set, err)
			}
			watchtest.Register(t, reg, *set[0])
		}
	})
}

func TestDrained_StaysInJSON(t *testing.T) {
	in := instance("a")
	in.Weight = registry.Drained
	text, err := json.Marshal(in)
	var back registry.Instance
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || !back.Equal(&in) || !strings.Contains(string(text), `"weight":-1`) {
		t.Errorf("%s is read as %+v, %v", text, back, err)
	}
}

package consul

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What an entry is decoded to is what encoding/json makes of it, also after others, and whatever stands in them.
func TestEntriesAreAsEncodingJSONHasThem(t *testing.T) {
	node := `"Node":{"ID":"1","Address":"10.0.0.1","Meta":{"a":"}"}}`
	serf := `{"Node":"n","CheckID":"serfHealth","Status":"passing","Output":"a \"b\" ]"}`
	d := new(entryDecoder)
	for _, raw := range []string{
		`{` + node + `,"Service":{"ID":"a","Service":"s","Port":80,"Tags":["x"],"Meta":{"k":"v"},"Weights":{"Passing":3}},"Checks":[` + serf + `]}`,
		`{` + node + `,"Service":{"ID":"b","Service":"s","Address":"10.0.0.2"},"Checks":[` + serf + `,{"CheckID":"c","Status":"critical"}]}`,
		`{` + node + `,"Service":{"ID":"c","Service":"s"},"Checks":[{"CheckID":"c","Status":"warning"},` + serf + `]}`,
		`{` + node + `,"Service":{"ID":"d","Service":"s"},"Checks":[{"CheckID":"c","Status":"warning"}]}`,
		`{"Node":{"Address":"10.0.0.9"},"Service":{"ID":"e","Service":"s"},"Checks":[]}`,
		`{"Service":{"ID":"f","Service":"s"},"Checks":null}`,
		`{` + node + `,"Service":{"ID":"g","Service":"s"}}`,
		`{"Node":null,"Service":{"ID":"h","Service":"s"},"Checks":[null,{}]}`,
		` { "Service" : { "ID" : "i" , "Service":"s" } , "Checks" : [ { "Status" : "pass\u0069ng" , "CheckID":"\"" } ] , "Node" : { } } `,
		`{"Service":{"Service":"s","TaggedAddresses":{"http":{"Address":"h","Port":1},"g\u0072pc":{"Port":2}}},"More":[1,{"a":[]}]}`,
		`{"Service":{"Service":"s","TaggedAddresses":null}}`,
		`{}`,
		`null`,
	} {
		raw = strings.TrimSpace(raw) // as the walk over an answer gives it
		var got, want entry
		if err := d.decode([]byte(raw), &got); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if err := json.Unmarshal([]byte(raw), &want); err != nil {
			t.Fatal(err)
		}
		if want.Service.Address != "" {
			want.Node.Address = "" // of no use
		}
		if len(got.Checks) == 0 && len(want.Checks) == 0 {
			got.Checks, want.Checks = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", raw, got, want)
		}
	}
}

// Addresses that Consul adds itself are not decoded: nobody wants them.
func TestConsulsOwnAddresses(t *testing.T) {
	var e entry
	raw := `{"Service":{"Service":"s","TaggedAddresses":{"lan_ipv4":{"Address":"a","Port":1},"virtual":{"Address":"b","Port":2},"x":{"Address":"c","Port":3}}}}`
	if err := new(entryDecoder).decode([]byte(raw), &e); err != nil {
		t.Fatal(err)
	}
	if want := (taggedAddresses{"x": {"c", 3}}); !reflect.DeepEqual(e.Service.TaggedAddresses, want) {
		t.Errorf("got %v", e.Service.TaggedAddresses)
	}
}

// FuzzEntry looks for an entry that is no JSON, or that encoding/json would refuse for its types, and is taken all the same.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{
		entryOf("a", "1"), `{`, `{}`, `{}}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{"\x":1}`, `{a:1}`, `{"Node":{"Address":1}}`, `{"Node":{]}`, `{"Checks":{}}`,
		`{"Checks":[1]}`, `{"Checks":[{"Status":1}]}`, `{"Checks":[{"Status":"passing","X":tru}]}`, `{"Checks":[{}`, `{"Service":[]}`, `{"Service":{"Port":"80"}}`,
		`{"Service":{"TaggedAddresses":{"x":1}}}`, `{"Service":{"TaggedAddresses":[]}}`, `{"More":nul}`, `{"More":01}`, "{\"a\nb\":1}", `{"Checks":[{"CheckID":"a` + "\n" + `"}]}`, `[]`, `1`, `nul`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.Trim(raw, " \t\r\n") // as the walk over an answer gives it
		var got, want entry
		err := new(entryDecoder).decode(raw, &got)
		if err == nil && !json.Valid(raw) {
			t.Fatalf("%q is taken, and is no JSON", raw)
		}
		if exact := json.Unmarshal(raw, &want); err != nil && exact == nil {
			t.Fatalf("%q is refused, %v, which encoding/json takes", raw, err)
		}
	})
}

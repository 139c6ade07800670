package codec

import (
	"fmt"
	"maps"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func TestDecode_Addresses(t *testing.T) {
	for address, want := range map[string]string{
		"[::1]": "[::1]:80", "::1": "[::1]:80", "[2001:db8::7]": "[2001:db8::7]:80", "10.0.0.1": "10.0.0.1:80", "host.example.": "host.example.:80",
		"some_host-1": "some_host-1:80", "": "[2001:db8::1]:80",
	} {
		in, err := Decode(fmt.Appendf(nil, `{"Node":{"Address":"[2001:db8::1]"},"Service":{"ID":"a","Service":"s","Address":%q,"Port":80,
			"TaggedAddresses":{"admin":{"Address":%q,"Port":80},"bad":{"Address":"a b","Port":80},"high":{"Address":"h","Port":80000}}}}`, address, address))
		if err == nil {
			err = Usable(in, "s")
		}
		if err != nil || in.Address != want || address != "" && (len(in.Endpoints) != 1 || in.Endpoints["admin"] != want) {
			t.Errorf("%q is read as %v, %v", address, in, err)
		}
	}
}

func TestDecode_WeightsAndZones(t *testing.T) {
	const warns = `"Checks":[{"Status":"warning"}]`
	for text, want := range map[string]registry.Instance{
		`"Service":{"Weights":{"Passing":3,"Warning":2}}`:          {Weight: 3},
		`"Service":{"Weights":{"Passing":3,"Warning":2}},` + warns: {Weight: 2, Status: registry.Warning},
		`"Service":{"Weights":{"Passing":3,"Warning":0}},` + warns: {Weight: registry.Drained, Status: registry.Warning},
		`"Service":{"Weights":{"Passing":0,"Warning":2}}`:          {Weight: registry.Drained},
		`"Service":{"Weights":{"Passing":-7}}`:                     {Weight: registry.Drained},
		`"Service":{"Weights":{"Passing":9223372036854775807}}`:    {Weight: MaxWeight},
		`"Service":{}`:               {Weight: 1},
		`"Service":{"Weights":null}`: {Weight: 1},
		`"Service":{"Locality":{"Region":"eu","Zone":"eu-1"}}`:                         {Weight: 1, Zone: "eu-1"},
		`"Service":{"Locality":null},"Node":{"Locality":{"Zone":"eu-2"}}`:              {Weight: 1, Zone: "eu-2"},
		`"Service":{"Locality":{"Zone":"a"}},"Node":{"Locality":{"Zone":"b"}}`:         {Weight: 1, Zone: "a"},
		`"Service":{"Locality":{"Zone":"a"},"Meta":{"zone":"m","rollcall-owner":"x"}}`: {Weight: 1, Zone: "m"},
	} {
		in, err := Decode([]byte("{" + text + "}"))
		if err != nil || in.Weight != want.Weight || in.Zone != want.Zone || in.Status != want.Status {
			t.Errorf("%s is read as %+v, %v", text, in, err)
		}
	}
}

func TestDecode_AWeightOfNothingIsDrained(t *testing.T) {
	in, err := Decode([]byte(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"a","Service":"s","Port":80,"Weights":{"Passing":0,"Warning":0}}}`))
	if err != nil || in.Weight != registry.Drained {
		t.Errorf("got %+v, %v", in, err)
	}
}

// An entry that was changed by hand is read as far as possible.
func TestDecode_SurvivesAChangedKratosForm(t *testing.T) {
	in, err := Decode([]byte(`{"Service":{"ID":"s:a","Service":"s","Address":"h","Port":1,"Tags":null,
		"Meta":{"rollcall-owner":"x","rollcall-form":"kratos"},
		"TaggedAddresses":{"http":{"Address":"http://h:2"},"grpc":{"Address":"::","Port":3},"x":{"Address":"plain","Port":4}}}}`))
	if err != nil || in.Address != "h:1" || !maps.Equal(in.Endpoints, map[string]string{"http": "h:2"}) {
		t.Errorf("%+v, %v", in, err)
	}
}

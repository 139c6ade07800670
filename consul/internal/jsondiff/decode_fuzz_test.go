package jsondiff

import (
	"strings"
	"testing"
	"unicode"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/consul/internal/codectest"
	"github.com/rollcall-go/rollcall/registry"
)

// An instance of an answer can be looked up and dialled, for any answer to any kind of read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(codectest.RealAnswer))
	f.Add([]byte("[" + codectest.Entry("a", `,"Meta":{"rollcall-owner":"c.1.1","rollcall-more-0":"{\"address\":\"h:1\",\"endpoints\":{\"a\":\"h:2\"}}","rollcall-form":"kratos"}`) + "]"))
	f.Add([]byte("[" + codectest.Entry("a", `,"Kind":"connect-proxy","Proxy":{"DestinationServiceName":"s","DestinationServiceID":"s:a"}`) + "]"))
	f.Add([]byte(`[{"Service":{"ID":"s:10.0.0.1:80","Service":"s","Address":"10.0.0.1","Port":80,"Tags":["k:v",":","a"]}}]`))
	f.Add([]byte(`[{"Service":{"ID":"s:10.0.0.1:80","Service":"s","Address":"[::1]","Port":65536,"Weights":{"Passing":-1}},"Checks":[{"CheckID":"_node_maintenance"}]}]`))
	for bad := range codectest.Unusable {
		f.Add([]byte("[" + bad + "]"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range []func([]byte) (*registry.Instance, error){nil, codec.DecodeConnect, codec.WithDatacenter(nil), codec.WithDatacenter(codec.DecodeConnect)} {
			a := Answer{Decode: decode}
			set, err := updated(&a, b)
			if err != nil {
				continue
			}
			for _, in := range set {
				in = in.Clone()
				if in.Weight == 0 || in.Weight < registry.Drained || in.Weight > codec.MaxWeight {
					t.Errorf("%q has the weight %d", b, in.Weight)
				}
				if strings.ContainsFunc(in.ID, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q has the ID %q", b, in.ID)
				}
				// Consul and its tools write entries that could not be registered here.
				in.ID, in.Weight, in.Tags, in.Metadata = "a", 1, nil, nil
				if err := in.Validate(); err != nil {
					t.Errorf("%q: %v", b, err)
				}
			}
			for _, l := range a.LeftOut.Entries {
				if l.Name == "" || l.Why == "" {
					t.Errorf("%q leaves out %q because of %q", b, l.Name, l.Why)
				}
			}
		}
	})
}

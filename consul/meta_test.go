package consul

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMeta(t *testing.T) {
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr(), Meta: "team=payments, rack=7,empty="})
	w := watch(t, r, registry.Query{Service: "s", Metadata: map[string]string{"team": "payments"}})
	own := map[string]string{"rack": "8", "own": "x"}
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1", Metadata: own})
	want := map[string]string{"team": "payments", "rack": "8", "own": "x", "empty": ""}
	w.until("the instance, with the pairs of all", func(p pair) bool { in := p.find("a"); return in != nil && maps.Equal(in.Metadata, want) })
	if len(own) != 2 || !maps.Equal(g.Instance().Metadata, own) {
		t.Errorf("what was announced is %v", g.Instance().Metadata)
	}
}

func TestMetaRefusals(t *testing.T) {
	for text, part := range map[string]string{
		"team":                          `"team"`,
		"=x":                            `"=x"`,
		"a=1,a=2":                       "twice",
		"a=1,":                          `""`,
		"version=1":                     "version",
		"rollcall-x=1":                  `"rollcall-x=1"`,
		"a b=1":                         `"a b=1"`,
		"k=" + strings.Repeat("x", 513): "512",
	} {
		if err := (Config{Meta: text}).check(); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

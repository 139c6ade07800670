package consul

import (
	"maps"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMeta_IsAddedToEveryInstance(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr(), Meta: map[string]string{"team": "payments", "rack": "7", "empty": ""}})
	w := watchtest.Watch(t, r, registry.Query{Service: "s", Metadata: map[string]string{"team": "payments"}})
	own := map[string]string{"rack": "8", "own": "x"}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1", Metadata: own})
	want := map[string]string{"team": "payments", "rack": "8", "own": "x", "empty": ""}
	w.Until("the instance, with the pairs of all", func(p watchtest.Pair) bool { in := p.Find("a"); return in != nil && maps.Equal(in.Metadata, want) })
	if len(own) != 2 || !maps.Equal(g.Instance().Metadata, own) {
		t.Errorf("what was registered is %v", g.Instance().Metadata)
	}
}

func TestMeta_NamesWhatItRefuses(t *testing.T) {
	for _, c := range []struct{ key, value, part string }{
		{"", "x", `"=x"`}, {"version", "1", "version"}, {"rollcall-x", "1", `"rollcall-x=1"`}, {"a b", "1", `"a b=1"`},
		{"k", strings.Repeat("x", 513), "512"},
	} {
		configtest.WantRefusal(t, Config{Meta: map[string]string{c.key: c.value}}.Validate(), "Meta (meta)", c.part)
	}
	for text, part := range map[string]string{"team": `"team"`, "=x": `"=x"`, "a=1,a=2": `"a=1,a=2"`, "a=1,": `"a=1,"`} {
		_, err := parseURL(configtest.ParseURL(t, "consul://h/?meta="+text))
		configtest.WantRefusal(t, err, `"meta"`, part)
	}
}

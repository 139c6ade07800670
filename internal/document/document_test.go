package document

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

type part struct {
	Every time.Duration `json:"every,omitempty"`
	Text  string        `json:"text,omitempty"`
}

func (p *part) UnmarshalJSON(data []byte) error { return UnmarshalJSON(data, p) }
func (p part) MarshalJSON() ([]byte, error)     { return MarshalJSON(p) }

type whole struct {
	Wait   time.Duration `json:"wait,omitempty"`
	Linger time.Duration `json:"linger,omitempty" off:"negative"`
	Limit  int           `json:"limit,omitempty"`
	On     bool          `json:"on,omitempty"`
	Hosts  []string      `json:"hosts,omitempty"`

	Pairs map[string]string `json:"pairs,omitempty"`
	Part  part              `json:"part,omitzero"`
	Not   func()            `json:"-"`
}

func TestUnmarshalJSON_ReadsDurations(t *testing.T) {
	w := whole{Limit: 7}
	err := UnmarshalJSON([]byte(`{"WAIT": "90s", "linger": "off", "part": {"every": 1000000000}, "unknown": 1, "not": 2}`), &w)
	if err != nil || w.Wait != 90*time.Second || w.Linger != Off || w.Part.Every != time.Second || w.Limit != 7 {
		t.Errorf("read %+v, %v", w, err)
	}
	for _, bad := range []string{`{"wait": "soon"}`, `{"wait": "off"}`, `{"wait": 1.5}`, `{"wait": true}`, `{"linger": "soon"}`, `{"linger": []}`, `{"hosts": 7}`, `{"hosts": {}}`, `{"pairs": []}`, `{"pairs": "a"}`, `{"pairs": "a=1,a=2"}`, `{`} {
		before := whole{Wait: time.Second}
		if err := UnmarshalJSON([]byte(bad), &before); err == nil || before.Wait != time.Second {
			t.Errorf("%s is read as %+v", bad, before)
		}
	}
	if err := UnmarshalJSON([]byte(`{"wait": null, "linger": null}`), &w); err != nil || w.Wait != 90*time.Second || w.Linger != Off {
		t.Errorf("null: %+v, %v", w, err)
	}
}

func TestUnmarshal_RefusesANegativeDurationAndNamesOff(t *testing.T) {
	want := `linger: "-1s" is negative; to turn it off, write off`
	var w whole
	if err := UnmarshalJSON([]byte(`{"linger": "-1s"}`), &w); err == nil || err.Error() != want || w.Linger != 0 {
		t.Errorf("JSON is read as %v, %v, want %s", w.Linger, err, want)
	}
	if err := UnmarshalMap(map[string]any{"linger": "-1s"}, &w); err == nil || err.Error() != want || w.Linger != 0 {
		t.Errorf("a map is read as %v, %v, want %s", w.Linger, err, want)
	}
}

func TestMarshalJSON_WritesDurationsAsText(t *testing.T) {
	text, err := MarshalJSON(whole{Wait: 90 * time.Second, Linger: Off, Part: part{Every: time.Second}})
	if want := `{"wait":"1m30s","linger":"off","part":{"every":"1s"}}`; err != nil || string(text) != want {
		t.Errorf("wrote %s, %v", text, err)
	}
	if text, err := json.Marshal([]part{{}}); err != nil || string(text) != `[{}]` {
		t.Errorf("wrote %s, %v", text, err)
	}
}

func TestUnmarshalMap_ReadsWhatAnotherReaderParsed(t *testing.T) {
	var w whole
	err := UnmarshalMap(map[any]any{
		"Wait": "90s", "linger": 0, "limit": 1e6, "on": "true", "hosts": "a, b", "pairs": map[string]any{"a": 1e6, "b": "c"}, "part": map[string]any{"every": 1000000000, "text": 7}, "unknown": 1, "": nil,
	}, &w)
	if err != nil || w.Wait != 90*time.Second || w.Linger != Off || w.Limit != 1000000 || !w.On || strings.Join(w.Hosts, "+") != "a+b" || !maps.Equal(w.Pairs, map[string]string{"a": "1000000", "b": "c"}) || w.Part != (part{time.Second, "7"}) {
		t.Errorf("read %+v, %v", w, err)
	}
	again := whole{}
	if err := errors.Join(UnmarshalMap(&w, &again), UnmarshalMap(nil, &again), UnmarshalMap((*whole)(nil), &again)); err != nil || again.Limit != w.Limit {
		t.Errorf("read %+v, %v", again, err)
	}
	for key, bad := range map[string]any{"wait": "soon", "limit": 1.5, "on": "maybe", "hosts": 7, "part": "text", "linger": true, "pairs": "a"} {
		if err := UnmarshalMap(map[string]any{key: bad}, &w); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s %v: %v", key, bad, err)
		}
	}
	if err := UnmarshalMap(map[string]any{"limit": []any{1}}, &w); err == nil {
		t.Error("a list is read as a number")
	}
}

func TestUnmarshalJSON_ReadsListsAndPairs(t *testing.T) {
	for text, want := range map[string]whole{
		`{"hosts": ["a", "b,c"], "pairs": {"x": "1,2", "y": ""}}`: {Hosts: []string{"a", "b,c"}, Pairs: map[string]string{"x": "1,2", "y": ""}},
		`{"hosts": "a, b", "pairs": "x=1=2, y="}`:                 {Hosts: []string{"a", "b"}, Pairs: map[string]string{"x": "1=2", "y": ""}},
		`{"hosts": "", "pairs": ""}`:                              {},
		`{"hosts": null, "pairs": null}`:                          {Hosts: []string{"as before"}, Pairs: map[string]string{"as": "before"}},
	} {
		got := whole{Hosts: []string{"as before"}, Pairs: map[string]string{"as": "before"}}
		if err := UnmarshalJSON([]byte(text), &got); err != nil || !slices.Equal(got.Hosts, want.Hosts) || !maps.Equal(got.Pairs, want.Pairs) {
			t.Errorf("%s is read as %+v, %v", text, got, err)
		}
	}
}

func TestUnmarshalJSON_AnErrorNamesTheField(t *testing.T) {
	for text, want := range map[string]string{
		`{"wait": "soon"}`:             `wait: "soon" is not a duration such as 90s`,
		`{"Wait": "soon"}`:             `wait: "soon" is not a duration`,
		`{"part": {"every": "often"}}`: `part.every: "often" is not a duration`,
		`{"hosts": 7}`:                 "hosts: 7 is not a list",
		`{"hosts": [[]]}`:              "hosts: it is not one value",
		`{"pairs": "a"}`:               `pairs: "a" is not a pair`,
		`{"limit": "x"}`:               "limit",
	} {
		if err := UnmarshalJSON([]byte(text), &whole{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

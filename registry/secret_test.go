package registry_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

const planted = "hunter2-is-planted"

// holder has a secret wherever a struct can.
type holder struct {
	Field   registry.Secret
	hidden  registry.Secret
	Pointer *registry.Secret
	pointer *registry.Secret
	Any     any
	inner   struct{ deep registry.Secret }
	list    []registry.Secret
	byName  map[string]registry.Secret
	byToken map[registry.Secret]int
}

func fields() holder {
	s := registry.NewSecret(planted)
	h := holder{Field: s, hidden: s, Pointer: &s, pointer: &s, Any: s, list: []registry.Secret{s}, byName: map[string]registry.Secret{"a": s}, byToken: map[registry.Secret]int{s: 1}}
	h.inner.deep = s
	return h
}

// wantHidden fails if text has the secret, also as numbers or in hexadecimal.
func wantHidden(t *testing.T, how, text string) {
	t.Helper()
	for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), fmt.Sprintf("% x", planted), fmt.Sprintf("%d", []byte(planted)), fmt.Sprintf("%#v", []byte(planted))} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
	}
}

func TestSecret_IsHiddenFromEveryVerb(t *testing.T) {
	s, h := registry.NewSecret(planted), fields()
	for _, value := range []any{s, &s, h, &h, []any{s, &h}, map[string]any{"a": s, "b": h}, struct{ h holder }{h}, struct{ h *holder }{&h}, fmt.Errorf("failed: %w", fmt.Errorf("%v", h))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%c", "%U", "%b", "%o", "%e", "%p", "%10v", "%-20s", "%.3s", "%T"} {
			wantHidden(t, verb, fmt.Sprintf(verb, value))
		}
		wantHidden(t, "Println", fmt.Sprintln(value))
	}
	if got := fmt.Sprintf("%v %q %#v %v", s, s, s, registry.Secret{}); got != `(hidden) "(hidden)" "(hidden)" ` {
		t.Errorf("got %s", got)
	}
}

func TestSecret_IsHiddenFromEveryEncoding(t *testing.T) {
	s, h := registry.NewSecret(planted), fields()
	for _, value := range []any{s, &s, h, &h, []registry.Secret{s}, map[string]registry.Secret{"a": s}, map[string]any{"a": &h}} {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("opening", "config", value, slog.Group("group", "config", value))
		slog.New(slog.NewJSONHandler(&out, nil)).Info("opening", "config", value, slog.Group("group", "config", value))
		wantHidden(t, "slog", out.String())
		text, err := json.Marshal(value)
		if err != nil {
			// A map with secrets as keys and any values has a place in none of these.
			t.Fatal(err)
		}
		wantHidden(t, "json", string(text))
		if err := template.Must(template.New("").Parse("{{.}} {{printf \"%v\" .}}")).Execute(&out, value); err != nil {
			t.Fatal(err)
		}
		wantHidden(t, "template", out.String())
	}
	type exported struct {
		Attribute registry.Secret `xml:"a,attr"`
		Element   registry.Secret
	}
	e := exported{s, s}
	text, err := xml.Marshal(e)
	if err != nil || !strings.Contains(string(text), registry.HiddenSecret) {
		t.Errorf("xml: %s, %v", text, err)
	}
	wantHidden(t, "xml", string(text))
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(e); err != nil || !strings.Contains(out.String(), registry.HiddenSecret) {
		t.Errorf("gob: %q, %v", out.String(), err)
	}
	wantHidden(t, "gob", out.String())
	var back exported
	if err := gob.NewDecoder(&out).Decode(&back); err == nil {
		t.Error("gob takes the placeholder for a secret")
	}
}

func TestSecret_ReadsPlainText(t *testing.T) {
	var read struct {
		A, B, C registry.Secret
		D       *registry.Secret
	}
	if err := json.Unmarshal([]byte(`{"A":"`+planted+`","B":"","C":null,"D":"\u00e9"}`), &read); err != nil {
		t.Fatal(err)
	}
	if read.A.Reveal() != planted || !read.B.IsZero() || !read.C.IsZero() || read.D.Reveal() != "é" {
		t.Errorf("read %q, %q, %q, %q", read.A.Reveal(), read.B.Reveal(), read.C.Reveal(), read.D.Reveal())
	}
	var x struct{ S registry.Secret }
	if err := xml.Unmarshal([]byte("<x><S>"+planted+"</S></x>"), &x); err != nil || x.S.Reveal() != planted {
		t.Errorf("xml read %q, %v", x.S.Reveal(), err)
	}
	if err := json.Unmarshal([]byte(`"(hidden)"`), &x.S); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("the placeholder is read as a secret: %v", err)
	}
	for in, ok := range map[any]bool{planted: true, nil: true, 83: false, 1e9: false, true: false} {
		if err := x.S.UnmarshalMapstructure(in); (err == nil) != ok || x.S.Reveal() != planted {
			t.Errorf("%v: %v", in, err)
		}
	}
}

func TestSecret_EqualTextIsEqual(t *testing.T) {
	a, b := registry.NewSecret(planted), registry.NewSecret(strings.Clone(planted))
	if a != b || a == registry.NewSecret("other") || registry.NewSecret("") != (registry.Secret{}) || (map[registry.Secret]int{a: 1})[b] != 1 {
		t.Error("secrets are not compared by their text")
	}
}

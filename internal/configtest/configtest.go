// Package configtest has what the backends' tests of their Config share.
package configtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// Secret is a part of every secret of these tests, and of no other text.
const Secret = "s3cret"

// ParseURL parses a URL that is valid.
func ParseURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// WantRefusal reports an error unless err wraps registry.ErrInvalid, has each of the texts, and does not show [Secret].
func WantRefusal(t testing.TB, err error, texts ...string) {
	t.Helper()
	if !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("the error is %v, want registry.ErrInvalid and the texts %q", err, texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %s", err, text)
		}
	}
	WantHidden(t, "the refusal", err)
}

// WantHidden reports an error if a text shows [Secret]. what names the text.
func WantHidden(t testing.TB, what string, text any) {
	t.Helper()
	if s := fmt.Sprint(text); strings.Contains(s, Secret) {
		t.Errorf("%s shows the secret: %s", what, s)
	}
}

// WantConfigHidden reports an error if c shows [Secret] in any form in which it can be printed, logged or encoded.
func WantConfigHidden[C fmt.Stringer](t testing.TB, what string, c C) {
	t.Helper()
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("opening", "config", c, "pointer", &c, "list", []C{c}, "struct", struct{ C *C }{&c})
	}
	WantHidden(t, what+" in the log", log.String())
	asJSON, err := json.Marshal([]any{c, &c, map[string]any{"list": []any{c, &c}}, struct{ C *C }{&c}})
	if err != nil {
		t.Fatal(err)
	}
	WantHidden(t, what+" in JSON", string(asJSON))
	WantHidden(t, what+" as a text", c.String())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		WantHidden(t, what+" by "+verb, fmt.Sprintf(verb, c)+fmt.Sprintf(verb, &c)+fmt.Sprintf(verb, struct{ C C }{c}))
	}
}

// WantOpenHidden opens a URL, by way of the registry and directly, and reports an error if a refusal shows [Secret].
func WantOpenHidden(t testing.TB, openers registry.Openers, raw string) {
	t.Helper()
	r, err := openers.Open(t.Context(), raw)
	if err == nil {
		r.Close()
		return
	}
	WantHidden(t, "Open of "+raw, err)
	u, err := url.Parse(raw)
	if err != nil {
		return
	}
	for _, open := range openers {
		if r, err = open(t.Context(), u); err == nil {
			r.Close()
			continue
		}
		WantHidden(t, "Open of the parsed "+raw, err)
	}
}

// WantSameErrors reports an error unless newDriver and newRegistry refuse each Config in the same words, as a *registry.Error.
func WantSameErrors[C any](t testing.TB, newDriver func(C) (registry.Driver, error), newRegistry func(C) (*registry.Registry, error), refused ...C) {
	t.Helper()
	for _, c := range refused {
		_, want := newRegistry(c)
		d, err := newDriver(c)
		var typed *registry.Error
		if d != nil || want == nil || err == nil || err.Error() != want.Error() || !errors.As(err, &typed) || typed.Op != "open" {
			t.Errorf("NewDriver returns %v, %v, and the error of New is %v", d, err, want)
		}
	}
}

package statuspage_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// address is the address of instances that no test calls.
const address = "10.0.0.1:80"

// get returns the answer to a request without a body.
func get(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// text returns the page with one blank in place of each tag and space, as a person reads it.
func text(page string) string {
	_, page, _ = strings.Cut(page, "<main>")
	page, _, _ = strings.Cut(page, "</main>")
	var b strings.Builder
	inTag := false
	for _, r := range page {
		switch {
		case r == '<':
			inTag = true
			b.WriteByte(' ')
		case r == '>':
			inTag = false
		case !inTag:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// wantText fails the test unless the page has all parts.
func wantText(t *testing.T, h http.Handler, parts ...string) {
	t.Helper()
	got := text(get(h, "GET", "/").Body.String())
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("the page does not say %q:\n%s", p, got)
		}
	}
}

// wantNoText fails the test if the page, tags included, has one of the parts.
func wantNoText(t *testing.T, h http.Handler, parts ...string) {
	t.Helper()
	got := get(h, "GET", "/").Body.String()
	for _, p := range parts {
		if strings.Contains(got, p) {
			t.Errorf("the page has %q:\n%s", p, got)
		}
	}
}

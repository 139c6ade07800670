// Package scrub hides secrets in texts that others wrote, such as the answer of a proxy.
package scrub

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// Text returns text with [registry.HiddenSecret] in place of each secret, also if it is quoted, escaped, encoded or made printable there.
func Text(text string, secrets ...string) string {
	var forms []string
	for _, s := range secrets {
		forms = append(forms, formsOf(s)...)
	}
	// The longest forms come first, since one may be a part of another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, form := range slices.Compact(forms) {
		text = strings.ReplaceAll(text, form, registry.HiddenSecret)
	}
	return text
}

// formsOf returns the forms in which a text may show a secret.
func formsOf(secret string) []string {
	trimmed := strings.TrimSpace(secret) // as in an HTTP header
	if trimmed == "" {
		return nil
	}
	asJSON, _ := json.Marshal(trimmed) // never fails for a string
	forms := []string{
		trimmed, inner(strconv.Quote(trimmed)), inner(strconv.QuoteToASCII(trimmed)), inner(string(asJSON)),
		url.QueryEscape(trimmed), url.PathEscape(trimmed), html.EscapeString(trimmed), strings.ToValidUTF8(trimmed, "\uFFFD"),
	}
	// Each of them may also have been put on one line, been made printable, or both.
	for _, form := range forms {
		line := strings.Join(strings.Fields(form), " ")
		forms = append(forms, line, escaped(line, math.MaxInt), escaped(form, math.MaxInt))
	}
	if len(secret) >= 4 { // the encoding of a shorter one is a part of many texts
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(secret)))
	}
	return forms
}

// inner returns a quoted text without its quotes.
func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

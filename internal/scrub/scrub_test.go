package scrub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

func TestText_HidesEveryFormOfASecret(t *testing.T) {
	for _, secret := range []string{"planted", ` planted"\&<é` + "\xff\t/?#+%"} {
		asJSON, err := json.Marshal([]string{secret})
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%s %q %+q %s %s %s %s %s", secret, secret, secret, asJSON, url.QueryEscape(strings.TrimSpace(secret)), url.PathEscape(secret), html.EscapeString(secret),
			base64.StdEncoding.EncodeToString([]byte(secret)))
		got := Text(text, "", "other", secret)
		if strings.Contains(got, "planted") || strings.Count(got, "(hidden)") != 8 {
			t.Errorf("%q leaves %s", secret, got)
		}
	}
	if got := Text("unchanged", "", " ", "x"); got != "unchanged" {
		t.Errorf("got %s", got)
	}
}

func TestText_HidesASecretThatWasMadePrintable(t *testing.T) {
	for _, secret := range []string{"\"\x1bplanted", "\"\x7fplanted\t\u200bé\xff", "a \n planted\r\n\u2028b", "<\x9bplanted"} {
		asJSON, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{secret, fmt.Sprintf("%q", secret), string(asJSON), html.EscapeString(secret)} {
			oneLine := strings.Join(strings.Fields(text), " ")
			for _, shown := range []string{Line(text), oneLine, Line(oneLine)} {
				if got := Text(shown, secret); strings.Contains(got, "planted") {
					t.Errorf("of %q, shown as %s, it leaves %s", secret, shown, got)
				}
				if got := Line(Text(text, secret)); strings.Contains(got, "planted") {
					t.Errorf("of %q, hidden before the text is made printable, it leaves %s", secret, got)
				}
			}
		}
	}
}

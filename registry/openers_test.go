package registry_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

func openFake(ctx context.Context, u *url.URL) (*registry.Registry, error) {
	p := urlparam.Parse(u.RawQuery)
	var dc, token string
	var o registry.Options
	p.String("dc", &dc)
	p.String("token", &token)
	p.Options(&o)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return registry.New(newFake(), o)
}

func TestOpeners_OpensURL(t *testing.T) {
	o := registry.Openers{"fake": openFake, "other": openFake}
	r, err := o.Open(t.Context(), "fake://user:hunter2@host:1/?dc=dc1&linger=5s&cache-dir=/tmp/x")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	for _, c := range []struct{ name, url, want string }{
		{"an unknown scheme", "consul://user:hunter2@host:1", `scheme "consul" is unknown; this program can open: fake, other`},
		{"no scheme", "hunter2", "starts with none of the schemes"},
		{"no scheme, but a name and a port", "localhost:8500", "starts with none of the schemes that this program can open, followed by ://: fake, other"},
		{"no scheme, but an address and a port", "127.0.0.1:8500", "starts with none of the schemes that this program can open, followed by ://: fake, other"},
		{"no scheme, but an IPv6 address and a port", "[::1]:8500", "starts with none of the schemes that this program can open, followed by ://: fake, other"},
		{"a user in the scheme's place", "hunter2:pass@host", "starts with none of the schemes"},
		{"a URL that does not parse", "fake://user:hunter2#x@host:1/%zz", "cannot be parsed"},
		{"a port that contains a password", "fake://user:hun%ter2@host", "cannot be parsed"},
		{"an unknown parameter", "fake://h?dcc=hunter2&other=hunter2&token=hunter2", `unknown URL parameter "dcc", "other" (known: backoff-max, backoff-min, burst, cache-dir, close-timeout, dc, keep-on-close, linger, outage-grace, rate, spacing, spacing-per-instance, token); did you mean "dc" for "dcc"?`},
		{"a malformed parameter", "fake://h?linger=5", `URL parameter "linger": "5" is not a duration such as 30s`},
		{"a parameter given twice", "fake://h?token=hunter2&token=hunter2", `URL parameter "token": given more than once`},
		{"bad encoding", "fake://h?token=hunter2%zz", "URL parameters: malformed percent-encoding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := o.Open(t.Context(), c.url)
			if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "hun") {
				t.Errorf("the secret shows: %v", err)
			}
		})
	}
	if _, err := (registry.Openers{}).Open(t.Context(), "a://b"); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
}

package consul

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// For any body, the text of a refusal is one line of bounded length, without control characters and without the token.
func FuzzErrorBody(f *testing.F) {
	const token = "0f7a6f2e-5d5b-4d2b-9d9b-1f2d3c4b5a69"
	for _, body := range []string{"", "No cluster leader", "rpc error making call: rpc error making call: x", "\x1b[2J\r\n\u202e", token, token[:20] + "\n" + token[20:], strings.Repeat("x", 290) + token,
		"<html>no</html>", `{"message":"no Route matched"}`, "Client sent an HTTP request to an HTTPS server.\n", "\xff\xfe", "read tcp 1.1.1.1:1->2.2.2.2:2: reset", "Unknown check ID \"x\""} {
		for _, code := range []int{400, 403, 404, 413, 429, 500, 504} {
			f.Add(code, body)
		}
	}
	d, err := newDriver(Config{Address: "127.0.0.1:1", Token: registry.NewSecret(token)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { d.Close() })
	f.Fuzz(func(t *testing.T, code int, body string) {
		for _, cause := range []error{api.StatusError{Code: code, Body: body}, agent.UnmarkedError{StatusError: api.StatusError{Code: code, Body: body}}, agent.Fault(body), errors.New(body)} {
			err := d.agent.Classify(context.Background(), "read service s", time.Second, cause)
			s := err.Error()
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s) > 2*scrub.MaxLine || strings.Contains(s, token) {
				t.Errorf("%d %q: %q", code, body, s)
			}
			if !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("%d %q: %v is of no kind", code, body, err)
			}
		}
	})
}

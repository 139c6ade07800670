package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// A proxy that answers everything with 200 and a page has not taken a write.
func TestAWebPageIsNoAnswer(t *testing.T) {
	clearEnvironment(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/checks") {
			fmt.Fprint(w, "{}") // so that there is a write
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html>Sign in</html>")
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, announce := d.Announce(t.Context(), minimal())
	l := &lease{d: d, serviceID: "s:a", beating: make(chan struct{}, 1)}
	_, services := d.Services(t.Context())
	_, read := d.Follow(registry.Query{Service: "s"}).Next(t.Context())
	for what, err := range map[string]error{
		"Announce": announce, "a heartbeat": l.repeat(t.Context(), patience), "Services": services, "Next": read,
	} {
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "web page") {
			t.Errorf("%s returns %v", what, err)
		}
	}
}

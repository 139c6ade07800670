package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/registry"
)

// A proxy that answers a write with 200 and a web page has not carried it out.
func TestDriver_TakesNoWebPageForAnAnswer(t *testing.T) {
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
	_, registering := d.Register(t.Context(), minimal(), nil)
	l := bareLease(d, "s:a", codec.Owner{})
	_, services := d.Services(t.Context())
	_, read := d.Watch(registry.Query{Service: "s"}).Next(t.Context())
	for what, err := range map[string]error{
		"Register": registering, "a heartbeat": l.Renew(t.Context()), "Services": services, "Next": read,
	} {
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "web page") {
			t.Errorf("%s returns %v", what, err)
		}
	}
}

package etcd

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// startGateway starts a gateway without a backend, which answers all calls with a page, and returns its address.
func startGateway(t *testing.T, status int) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html>no</html>")
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// The page of a gateway is an outage, also if its status is the one of a denial: Register goes on.
func TestRegister_RetriesWhileAGatewayAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400, 401, 403, 404, 413, 502} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			d := driverFor(t, Config{Endpoints: []string{startGateway(t, status)}, Timeout: 5 * time.Second})
			t.Cleanup(func() { d.Close() })
			_, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}, nil)
			wantKind(t, err, registry.ErrUnavailable)
			if !strings.Contains(err.Error(), "gateway") {
				t.Errorf("the error does not say who answered: %v", err)
			}
			_, err = d.Watch(registry.Query{Service: "s"}).Next(watchtest.Context(t))
			wantKind(t, err, registry.ErrUnavailable)
		})
	}
}

// A gateway among the endpoints fails few calls: it is avoided after the first one.
func TestRegister_WithAGatewayAmongTheEndpoints(t *testing.T) {
	t.Parallel()
	e := testbed.StartEtcd(t)
	for range 6 {
		r := connect(t, Config{Endpoints: []string{startGateway(t, http.StatusForbidden), e.Addr()}})
		g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
		if err := g.Deregister(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
	}
}

package serve_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

func TestService_ServeHTTPWorksAsHTTPCheckOfConsul(t *testing.T) {
	agent := testbed.StartConsul(t)
	s := &serve.Service{Registrar: newStore(t), Instance: registry.Instance{Service: service}, Services: []registry.Instance{{Service: "bills"}}, DrainDelay: -1}
	s.NotReady("bills")
	mux := http.NewServeMux()
	mux.Handle("/ready", s)
	r, _ := startHTTP(t, s, mux)
	client := newClient(t)
	for id, query := range map[string]string{"all": "", "backend": "?service=" + service, "bills": "?service=bills"} {
		check, err := json.Marshal(map[string]string{"ID": id, "Name": id, "HTTP": "http://" + r.address + "/ready" + query, "Interval": "100ms", "Timeout": "10s"})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodPut, "http://"+agent.Addr()+"/v1/agent/check/register", strings.NewReader(string(check)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("Consul refuses the check: %s", resp.Status)
		}
	}
	// has waits until the checks have these statuses, and the output of one of them contains the text.
	has := func(when, all, backend, bills, output string) {
		t.Helper()
		watchtest.Eventually(t, "the statuses "+when, func() bool {
			_, body := get(t, client, "http://"+agent.Addr()+"/v1/agent/checks")
			var checks map[string]struct{ Status, Output string }
			if err := json.Unmarshal([]byte(body), &checks); err != nil {
				t.Fatal(err)
			}
			outputs := checks["all"].Output + checks["backend"].Output + checks["bills"].Output
			return checks["all"].Status == all && checks["backend"].Status == backend && checks["bills"].Status == bills && strings.Contains(outputs, output)
		})
	}
	has("at first", "passing", "passing", "critical", "bills: not ready")
	s.NotReady()
	has("while nothing is ready", "critical", "critical", "critical", "backend: not ready")
	s.Ready()
	has("when all is ready", "passing", "passing", "passing", "ready")
	if err := s.Drain(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	has("while it drains", "critical", "critical", "critical", "leaving")
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	has("after the end", "critical", "critical", "critical", "connection refused")
}

package consul

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// How long the agent waits for an answer, and how many good ones it wants after bad ones, is as the settings say.
func TestPatienceOfChecks(t *testing.T) {
	agent := testbed.StartConsul(t)
	var bad atomic.Bool
	var slow, good atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			select {
			case <-time.After(2 * time.Second): // longer than the interval, which bounds it otherwise
				slow.Add(1)
			case <-r.Context().Done():
			}
		case bad.Load():
			good.Store(0)
			w.WriteHeader(http.StatusInternalServerError)
		default:
			good.Add(1)
		}
	}))
	t.Cleanup(srv.Close)
	announce := func(service string, k Checks) *watcher {
		k.Kinds, k.Interval = CheckHTTP, time.Second
		r := open(t, Config{Address: agent.Addr(), Checks: k})
		register(t, r, registry.Instance{ID: "a", Service: service, Address: strings.TrimPrefix(srv.URL, "http://")})
		return watch(t, r, registry.Query{Service: service, AnyStatus: true})
	}
	patient, hasty := announce("patient", Checks{HTTPPath: "/slow", Timeout: 20 * time.Second}), announce("hasty", Checks{HTTPPath: "/slow"})
	strict := announce("strict", Checks{SuccessBeforePassing: 3})
	hasty.until("that the answer is late", statusIs(registry.Critical))

	strict.until("that all is well", statusIs(registry.Passing))
	bad.Store(true)
	strict.until("that it is not", statusIs(registry.Critical))
	bad.Store(false)
	strict.until("that it is again", statusIs(registry.Passing))
	if n := good.Load(); n < 3 {
		t.Errorf("it passes after %d good answers, want 3", n)
	}

	eventually(t, "some late answers", func() bool { return slow.Load() >= 2 })
	patient.until("that it passes", statusIs(registry.Passing))
	for _, p := range patient.all() {
		if in := p.find("a"); in != nil && in.Status != registry.Passing {
			t.Errorf("the agent has not waited: %v", p)
		}
	}
}

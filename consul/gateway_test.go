package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestClassify_TellsConsulsWordsFromAGateways(t *testing.T) {
	page := "\n<html><head><title>no</title></head></html>"
	for _, c := range []struct {
		code     int
		body     string
		user     string
		want     error
		gone     bool
		gateways bool
	}{
		{404, `unknown service ID: s:a`, "", registry.ErrUnavailable, true, false},
		{404, `Unknown service ID "s:a". Ensure that the service ID is passed, not the service name.`, "", registry.ErrUnavailable, true, false},
		{404, `Unknown check ID "rollcall:s:a". Ensure that the check ID is passed, not the check name.`, "", registry.ErrUnavailable, true, false},
		{500, `Unknown service ID "s:a"`, "", registry.ErrUnavailable, false, false},
		{404, "default backend - 404", "", registry.ErrUnavailable, false, true},
		{404, "404 page not found\n", "", registry.ErrUnavailable, false, true},
		{404, "", "", registry.ErrUnavailable, false, true},
		{404, page, "", registry.ErrUnavailable, false, true},
		{404, `{"message":"no Route matched with those values"}`, "", registry.ErrUnavailable, false, true},
		{403, page, "", registry.ErrUnavailable, false, true},
		{401, page, "", registry.ErrUnavailable, false, true},
		{401, page, "user", registry.ErrDenied, false, false},
		{400, page, "", registry.ErrUnavailable, false, true},
		{413, page, "", registry.ErrUnavailable, false, true},
		{502, page, "", registry.ErrUnavailable, false, true},
		{403, "Permission denied: token with AccessorID 'x' lacks permission", "", registry.ErrDenied, false, false},
		{403, "Permission denied: token with AccessorID 'primary-dc-down' lacks permission 'service:read' on \"s\"", "", registry.ErrUnavailable, false, false},
		{403, "ACL not found", "", registry.ErrDenied, false, false},
		{400, "Invalid service address", "", registry.ErrInvalid, false, false},
	} {
		d, err := newDriver(Config{Username: registry.NewSecret(c.user)})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		err = d.agent.Classify(t.Context(), "heartbeat", time.Second, api.StatusError{Code: c.code, Body: c.body})
		if !errors.Is(err, c.want) || agentpkg.IsNotFound(err) != c.gone || strings.Contains(err.Error(), agentpkg.ForeignHint) != c.gateways {
			t.Errorf("%d %q: %v; gone: %v", c.code, c.body, err, agentpkg.IsNotFound(err))
		}
	}
}

// passing returns on how many nodes the catalog lists the service as passing.
func passing(t *testing.T, operator *api.Client, service string) int {
	t.Helper()
	entries, _, err := operator.Health().Service(service, "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// wantNonePassing reports an error if the catalog lists the service as passing.
func wantNonePassing(t *testing.T, operator *api.Client, service string) {
	t.Helper()
	if n := passing(t, operator, service); n != 0 {
		t.Errorf("the catalog lists %d passing instances, want none", n)
	}
}

// gatewayAnswer is what a gateway answers in place of the agent behind it.
type gatewayAnswer struct {
	code int
	body string
}

// gatewayTrial is a client of an agent behind a gateway.
type gatewayTrial struct {
	*testing.T
	proxy    *testbed.Proxy
	operator *api.Client
	registry *registry.Registry
	instance registry.Instance
}

// testGateway runs a test for each of the answers.
func testGateway(t *testing.T, answers map[string]gatewayAnswer, test func(*gatewayTrial, gatewayAnswer)) {
	t.Helper()
	agent := testbed.StartConsul(t)
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, agent.Addr())
			in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"}
			test(&gatewayTrial{t, proxy, operatorOf(t, agent), open(t, Config{Address: proxy.Addr()}), in}, answer)
		})
	}
}

func (t *gatewayTrial) awaitPassing() {
	t.Helper()
	watchtest.Eventually(t, "the catalog lists the instance as passing", func() bool { return passing(t.T, t.operator, t.instance.Service) == 1 })
}

// deregister reports an error unless Deregister succeeds and the catalog lists no passing instance afterwards.
func (t *gatewayTrial) deregister(g registry.Registration) {
	t.Helper()
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	wantNonePassing(t.T, t.operator, t.instance.Service)
}

func TestDeregister_FailsWhileAGatewayAnswers(t *testing.T) {
	t.Parallel()
	testGateway(t, map[string]gatewayAnswer{
		"404 of an ingress": {http.StatusNotFound, "default backend - 404"},
		"404 page":          {http.StatusNotFound, "<html>not here</html>"},
		"403 page":          {http.StatusForbidden, "<html>forbidden</html>"},
		"401 page":          {http.StatusUnauthorized, "<html>who are you</html>"},
		"403 text":          {http.StatusForbidden, "RBAC: access denied"},
		"502 page":          {http.StatusBadGateway, "<html>bad gateway</html>"},
	}, func(t *gatewayTrial, answer gatewayAnswer) {
		g := watchtest.Register(t, t.registry, t.instance)
		t.awaitPassing()
		t.proxy.Fail(answer.code, answer.body)
		err := g.Deregister(watchtest.Within(t, 2*time.Second))
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), fmt.Sprint(answer.code)) {
			t.Errorf("while the gateway answers, Deregister returned %v", err)
		}
		t.proxy.Heal()
		t.deregister(g)
	})
}

func TestRegister_WaitsUntilTheGatewayHasABackend(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	proxy.Fail(http.StatusForbidden, "<html>forbidden</html>")
	r := open(t, Config{Address: proxy.Addr()})
	ctx, cancel := context.WithCancel(watchtest.Context(t))
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := r.Register(ctx, registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"})
		done <- err
	}()
	watchtest.Eventually(t, "it was tried twice", func() bool { return proxy.Requests() > 1 })
	proxy.Heal()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A gateway may answer anything with status 200.
func TestRegister_IgnoresAnswersOfAGateway(t *testing.T) {
	t.Parallel()
	testGateway(t, map[string]gatewayAnswer{
		"200 object": {http.StatusOK, "{}"},
		"200 null":   {http.StatusOK, "null"},
		"200 text":   {http.StatusOK, "ok"},
		"403 text":   {http.StatusForbidden, "RBAC: access denied"},
	}, func(t *gatewayTrial, answer gatewayAnswer) {
		t.proxy.Fail(answer.code, answer.body)
		done := make(chan registry.Registration, 1)
		go func() {
			g, err := t.registry.Register(watchtest.Context(t), t.instance)
			if err != nil {
				t.Error(err)
			}
			done <- g
		}()
		watchtest.Eventually(t, "several attempts", func() bool { return t.proxy.Requests() > 5 || len(done) > 0 })
		if len(done) > 0 {
			t.Fatal("Register has returned")
		}
		t.proxy.Heal()
		g := <-done
		if g == nil {
			return
		}
		t.awaitPassing()
		t.proxy.Fail(answer.code, answer.body)
		changed := t.instance
		changed.Version = "2"
		if err := g.Update(watchtest.Within(t, time.Second), changed); err == nil {
			t.Error("while the gateway answers, Update returned nil")
		}
		if err := g.Deregister(watchtest.Within(t, time.Second)); err == nil {
			t.Error("while the gateway answers, Deregister returned nil")
		}
		t.proxy.Heal()
		t.deregister(g)
	})
}
